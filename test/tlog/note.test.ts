import { generateKeyPairSync } from "node:crypto";
import { test } from "tap";
import {
  checkpointText,
  isKeyName,
  openNote,
  readBase64,
  readCheckpoint,
  readVkey,
  signerOf,
  signNote,
  type Verifier,
} from "../../src/tlog/note.ts";

/** The example of https://c2sp.org/signed-note. */
const VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE = `This is an example message.

\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
`;
const verifier = readVkey(VKEY) as Verifier;
const signer = signerOf("mapledger/x", generateKeyPairSync("ed25519").privateKey);

test("the specification's note is opened by its key", async (t) => {
  t.equal(verifier.vkey, VKEY);
  t.same(openNote(NOTE, verifier), { text: "This is an example message.\n" });
});

test("openNote says why it does not open a note", async (t) => {
  const rows: readonly [note: string, wrong: RegExp][] = [
    [NOTE.replace("an example", "no example"), /^the signature of example.com\/foo does not hold$/],
    [NOTE.replace("kn8", "kn9"), /does not hold/],
    [NOTE.replace("example.com/foo", "example.com/bar"), /^not signed by example.com\/foo\+530d903a/],
    [signNote("This is an example message.\n", signer), /^not signed by/],
    [NOTE.trimEnd(), /^not a signed note$/],
    ["This is an example message.\n", /^not a signed note$/],
    [NOTE.replace("\u2014", "-"), /^not a signature line: /],
    [NOTE.replace("Uw2Q", "Uw2"), /^not a signature line: /],
    [NOTE + "\u2014 a AAAAAAA=\n".repeat(100), /^more than 100 signatures$/],
  ];
  for (const [note, wrong] of rows) t.match(openNote(note, verifier), { wrong });
});

test("signatures of others do no harm, and a text may have empty lines", async (t) => {
  const both = `${NOTE}${signNote("This is an example message.\n", signer).split("\n\n")[1]}`;
  for (const key of [verifier, signer]) t.same(openNote(both, key), { text: "This is an example message.\n" });
  t.same(openNote(signNote("a\n\nb\n", signer), signer), { text: "a\n\nb\n" });
});

test("readVkey takes no key of another type, name or id", async (t) => {
  const wrong = [
    VKEY.replace("530d903a", "530d903b"),
    VKEY.replace("foo", "fop"),
    VKEY.replace("Aeky", "Beky"),
    "",
    "a+b",
    `${VKEY}\n`,
  ];
  for (const vkey of wrong) t.equal(readVkey(vkey), null, vkey);
  t.same(readVkey(signer.vkey)?.id, signer.id);
  t.same(["", "a b", "a+b", "a\nb", "\u2003", "mapledger/1"].map(isKeyName), [false, false, false, false, false, true]);
});

test("a checkpoint's text is read as it was written", async (t) => {
  const root = Buffer.from("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=", "base64");
  const text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
  const checkpoint = { origin: "example.com/behind-the-sofa", size: 20_852_163, root };
  t.equal(checkpointText(checkpoint), text);
  t.same(readCheckpoint(text), checkpoint);
  t.same(readCheckpoint(`${text}an extension\n`), checkpoint);
  for (const wrong of [
    "",
    "\n1\nAAAA\n",
    text.replace("208", "0208"),
    text.replace("CsUY", "CsU"),
    text.replace("2I=", "2J="),
  ])
    t.equal(readCheckpoint(wrong), null, wrong);
  t.equal(readBase64("AAB="), null, "bits that say nothing are zeros");
});
