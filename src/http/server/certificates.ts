/** Certificates and keys of TLS, in PEM: reads and checks them, and warns before they expire. */

import { createPrivateKey, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import type { CertificateFacts } from "../../syscall/command.ts";

/** The contents of the TCP port's TLS files. */
export interface Tls {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** The authorities that sign clients' certificates; null: clients are not asked for a certificate. */
  readonly clientCa: Buffer | null;
}

const BEGIN = /-----BEGIN CERTIFICATE-----/g;
const WHOLE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

const DAY_MS = 86_400_000;
/** A certificate is warned of 30 days before it expires, or in the last third of its life if that is shorter. */
const SOON_MS = 30 * DAY_MS;
const SOON_SHARE = 3;

/**
 * The certificates in a PEM file, in its order; a server's file begins with the server's own. Throws if there is none,
 * or if one is cut off or cannot be read.
 */
export function certificatesIn(pem: Buffer, file: string): readonly X509Certificate[] {
  const text = pem.toString("latin1");
  const found = text.match(WHOLE) ?? [];
  if (found.length === 0 || found.length !== text.match(BEGIN)?.length)
    throw new Error(`${file} has ${found.length === 0 ? "no certificate" : "a certificate that is cut off"}`);
  try {
    return found.map((one) => new X509Certificate(one));
  } catch (error) {
    throw new Error(`${file} has a certificate that cannot be read: ${(error as Error).message}`);
  }
}

/**
 * Throws an Error with the file's name if TLS is not possible: a file is cut off, or the key is of another certificate.
 */
export function checkTls(tls: Tls, files: Readonly<Record<keyof Tls, string>>): void {
  const [own] = certificatesIn(tls.cert, files.cert);
  if (tls.clientCa !== null) certificatesIn(tls.clientCa, files.clientCa);
  if (own?.checkPrivateKey(keyIn(tls.key, files.key)) !== true)
    throw new Error(`the key in ${files.key} is not the key of the certificate in ${files.cert}`);
  createSecureContext(contextOf(tls));
}

function keyIn(pem: Buffer, file: string): ReturnType<typeof createPrivateKey> {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new Error(`${file} has no key that can be read: ${(error as Error).message}`);
  }
}

/** Options for a new server, and for a running one. */
export function contextOf({ cert, key, clientCa }: Tls): SecureContextOptions {
  return { cert, key, ...(clientCa !== null && { ca: clientCa }) };
}

export function factsOf(certificate: X509Certificate): CertificateFacts {
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    serial: certificate.serialNumber.toLowerCase(),
    not_before: certificate.validFromDate.toISOString(),
    not_after: certificate.validToDate.toISOString(),
    sha256: fingerprintOf(certificate),
  };
}

/** SHA-256 of a certificate, in hex. */
export function fingerprintOf({ fingerprint256 }: Pick<X509Certificate, "fingerprint256">): string {
  return fingerprint256.replaceAll(":", "").toLowerCase();
}

/** A sentence for each certificate that has expired, expires soon, or is not yet valid. */
export function timeWarnings(certificates: readonly X509Certificate[], file: string, nowMs: number): string[] {
  return certificates.flatMap((certificate) => {
    const { subject, not_before: from, not_after: to } = factsOf(certificate);
    const [fromMs, toMs] = [certificate.validFromDate.getTime(), certificate.validToDate.getTime()];
    const named = `the certificate of ${subject} in ${file}`;
    if (nowMs < fromMs) return [`${named} is not valid before ${from}`];
    if (nowMs > toMs) return [`${named} expired on ${to}: clients refuse it`];
    const left = toMs - nowMs;
    if (left > Math.min(SOON_MS, (toMs - fromMs) / SOON_SHARE)) return [];
    const days = Math.floor(left / DAY_MS);
    return [`${named} expires on ${to}: ${days === 1 ? "1 day is" : `${days} days are`} left`];
  });
}

/** "CN=server, O=Example". Node puts each name of a subject on a line of its own. */
function oneLine(name: string | undefined): string {
  return (name ?? "").split("\n").join(", ");
}
