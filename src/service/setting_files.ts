import { SETTINGS, type Settings } from "../config.ts";
import { readSmall } from "../files/contents.ts";

/** Settings that name a file, which must exist. */
const FILES = ["tokens", "witnesses", "tlsCert", "tlsKey", "tlsClientCa"] as const;

const WHY: Readonly<Record<string, string>> = {
  ENOENT: "this file does not exist",
  ENOTDIR: "this file does not exist",
  EACCES: "this user may not read it",
};

/** Throws an Error that names the setting and the file if one of them cannot be read. */
export function checkSettingFiles(settings: Pick<Settings, (typeof FILES)[number]>): void {
  for (const name of FILES) {
    const file = settings[name];
    if (file === "") continue;
    try {
      readSmall(file);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new Error(`${SETTINGS[name].variable} is ${file}: ${WHY[code ?? ""] ?? message}`);
    }
  }
}
