import t from "tap";
import { InvalidInput } from "../../src/codec/invalid.ts";
import { readMoment, readTimeUs } from "../../src/codec/moments.ts";

t.test("a moment is one of RFC 3339, with any offset", (t) => {
  const us = Date.parse("2026-02-28T22:30:00Z") * 1000;
  for (const text of [
    "2026-02-28T22:30:00Z",
    "2026-02-28t22:30:00z",
    "2026-03-01T00:30:00+02:00",
    // A + that a query did not encode.
    "2026-03-01T00:30:00 02:00",
    "2026-02-28T17:00:00-05:30",
  ])
    t.equal(readTimeUs(text, "at"), us, text);
  t.strictSame(readMoment("2024-02-29T00:00:00.0000019Z", "at"), {
    timeUs: Date.parse("2024-02-29T00:00:00Z") * 1000 + 1,
  });
  t.strictSame(readMoment("17", "at"), { seq: 17 });
  t.end();
});

t.test("a day that does not exist is refused", (t) => {
  for (const text of [
    "2026-02-30T00:00:00Z",
    "2026-02-29T12:00:00+02:00",
    "2026-04-31T00:00:00 02:00",
    "2026-06-31t00:00:00.5z",
    "1900-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-10T00:00:00Z",
    "2026-01-32T00:00:00Z",
    "2026-01-01T25:00:00Z",
    "2026-01-01T00:60:00Z",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01",
    "",
  ]) {
    t.throws(() => readTimeUs(text, "since"), InvalidInput, text);
    t.throws(() => readMoment(text, "at"), InvalidInput, text);
  }
  t.end();
});
