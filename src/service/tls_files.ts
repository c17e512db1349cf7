/** The files of certificates and keys (MAPLEDGER_TLS_*), read again whenever one of them changes. */

import type { X509Certificate } from "node:crypto";
import type { Settings } from "../config.ts";
import { readSmall, whenReplaced } from "../files/contents.ts";
import { certificatesIn, checkTls, factsOf, type Tls, timeWarnings } from "../http/server/certificates.ts";
import type { CertificatesCommand } from "../syscall/command.ts";

const DAY_MS = 86_400_000;

type TlsSettings = Pick<Settings, "tlsCert" | "tlsKey" | "tlsClientCa">;

/**
 * Holds the certificates that are in force. New files are used only if they match each other; otherwise the former ones
 * stay in force.
 */
export class TlsFiles {
  readonly #settings: TlsSettings;
  readonly #warn: (message: string) => void;
  #tls: Tls;
  #watched: ((tls: Tls) => void) | null = null;

  /** Throws an Error that names the file if one cannot be read or does not match the others. */
  constructor(settings: TlsSettings, warn: (message: string) => void) {
    this.#settings = settings;
    this.#warn = warn;
    this.#tls = this.#read();
    this.warnOfTime(Date.now());
  }

  get tls(): Tls {
    return this.#tls;
  }

  /** The attr of the CERTIFICATES event: the facts of the certificates in force. */
  get inForce(): CertificatesCommand["attr"] {
    const [own] = this.#own;
    const authorities = this.#authorities;
    return {
      certificate: factsOf(own as X509Certificate),
      client_authorities: authorities === null ? null : authorities.map(factsOf),
    };
  }

  /**
   * Starts to watch the files, and to warn once a day of certificates that end soon. `changed` is called after each
   * change.
   */
  watch(changed: (tls: Tls) => void): void {
    this.#watched = changed;
    const { tlsCert, tlsKey, tlsClientCa } = this.#settings;
    for (const file of [tlsCert, tlsKey, tlsClientCa].filter((name) => name !== ""))
      whenReplaced(file, () => this.reread());
    setInterval(() => this.warnOfTime(Date.now()), DAY_MS).unref();
  }

  /** Reads the files again, and does nothing if they are unchanged. */
  reread(): void {
    try {
      const tls = this.#read();
      if (isSame(tls, this.#tls)) return;
      this.#tls = tls;
    } catch (error) {
      this.#warn(`the certificates cannot be renewed, and stay unchanged: ${(error as Error).message}`);
      return;
    }
    this.warnOfTime(Date.now());
    this.#watched?.(this.#tls);
  }

  /** Warns of certificates that have ended or end soon. */
  warnOfTime(nowMs: number): void {
    const { tlsCert, tlsClientCa } = this.#settings;
    for (const warning of timeWarnings(this.#own, tlsCert, nowMs)) this.#warn(warning);
    for (const warning of timeWarnings(this.#authorities ?? [], tlsClientCa, nowMs)) this.#warn(warning);
  }

  get #own(): readonly X509Certificate[] {
    return certificatesIn(this.#tls.cert, this.#settings.tlsCert);
  }

  get #authorities(): readonly X509Certificate[] | null {
    const { clientCa } = this.#tls;
    return clientCa === null ? null : certificatesIn(clientCa, this.#settings.tlsClientCa);
  }

  #read(): Tls {
    const { tlsCert, tlsKey, tlsClientCa } = this.#settings;
    const clientCa = tlsClientCa === "" ? null : readSmall(tlsClientCa);
    const tls = { cert: readSmall(tlsCert), key: readSmall(tlsKey), clientCa };
    checkTls(tls, { cert: tlsCert, key: tlsKey, clientCa: tlsClientCa });
    return tls;
  }
}

function isSame(one: Tls, other: Tls): boolean {
  const sameCa = one.clientCa === null ? other.clientCa === null : other.clientCa?.equals(one.clientCa) === true;
  return sameCa && one.cert.equals(other.cert) && one.key.equals(other.key);
}
