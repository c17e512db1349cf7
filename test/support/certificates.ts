import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Certificates in a folder, by openssl(1): NAME.pem and NAME.key each. */
export class Certificates {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  authority(name: string): void {
    const how = "req -x509 -newkey ed25519 -nodes -days 2".split(" ");
    this.#openssl(...how, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.pem`);
  }

  /** `names`: as subjectAltName takes them. `days`: 0 has ended when it is made. */
  signed(name: string, subject: string, by: string, names: string, days = 2): void {
    const request = "req -newkey ed25519 -nodes".split(" ");
    this.#openssl(...request, "-subj", subject, "-keyout", `${name}.key`, "-out", `${name}.csr`);
    writeFileSync(join(this.#folder, "names"), `subjectAltName=${names}`);
    const signing = ["-CA", `${by}.pem`, "-CAkey", `${by}.key`, "-CAcreateserial", "-days", String(days)];
    this.#openssl("x509", "-req", "-in", `${name}.csr`, "-out", `${name}.pem`, ...signing, "-extfile", "names");
  }

  #openssl(...words: string[]): void {
    execFileSync("openssl", words, { cwd: this.#folder, stdio: "pipe" });
  }
}
