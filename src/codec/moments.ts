import { InvalidInput } from "./invalid.ts";

/** Right after an event; or after the last event at or before a time, in microseconds since the epoch. */
export type Moment = { readonly seq: number } | { readonly timeUs: number };

const US = 1000;
/** In a query an offset's + that was not encoded arrives as a space: nothing else can be meant where a sign has to be. */
const RFC_3339 = /^(\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+ -]\d{2}:\d{2})$/;
const DAY_CHARACTERS = "2026-11-23".length;
const SEQ = /^\d{1,15}$/;

/** Microseconds since the epoch; digits beyond them are cut. */
export function readTimeUs(text: string, where: string): number {
  return timeUs(text) ?? invalid(text, where, "a moment as in 2026-11-23T20:00:00Z is needed");
}

/** A seq, or a time as in RFC 3339. */
export function readMoment(text: string, where: string): Moment {
  if (SEQ.test(text)) return { seq: Number(text) };
  return { timeUs: timeUs(text) ?? invalid(text, where, "a seq, or a moment as in 2026-11-23T20:00:00Z, is needed") };
}

function timeUs(text: string): number | undefined {
  const [, moment = "", fraction = "", zone = ""] = RFC_3339.exec(text) ?? [];
  if (moment !== "" && !isDay(moment.slice(0, DAY_CHARACTERS))) return undefined;
  const ms = Date.parse(`${moment.replace(" ", "T").toUpperCase()}${zone.replace(" ", "+").toUpperCase()}`);
  return Number.isNaN(ms) ? undefined : ms * US + Number(fraction.padEnd(6, "0").slice(0, 6));
}

/** Date.parse takes the 30th of February for a day in March. */
function isDay(day: string): boolean {
  const ms = Date.parse(`${day}T00:00:00Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(day);
}

function invalid(text: string, where: string, needed: string): never {
  throw new InvalidInput(where, `${needed}, found ${JSON.stringify(text.slice(0, 40))}`);
}
