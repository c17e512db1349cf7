import type { Call } from "../call.ts";

export async function version({ about, output }: Call): Promise<void> {
  if (output.json === null) output.text(`mapledger v${about.version}\n`);
  else output.json.value({ version: about.version });
}
