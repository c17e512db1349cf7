import { InvalidInput } from "./invalid.ts";

/** The moment after an event, or after the last event that is not later than a time (microseconds since the epoch). */
export type Moment = { readonly seq: number } | { readonly timeUs: number };

const US = 1000;
/**
 * The sign of the offset may be a space: "+" in a query that is not encoded arrives as one, and no other sign is
 * possible there.
 */
const RFC_3339 = /^(\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+ -]\d{2}:\d{2})$/;
const DAY_CHARACTERS = "2026-11-23".length;
const SEQ = /^\d{1,15}$/;

/** Reads a time in microseconds since the epoch; further digits are cut off. */
export function readTimeUs(text: string, where: string): number {
  return timeUs(text) ?? invalid(text, where, "a time such as 2026-11-23T20:00:00Z required");
}

/** Reads a seq, or a time of RFC 3339. */
export function readMoment(text: string, where: string): Moment {
  if (SEQ.test(text)) return { seq: Number(text) };
  return { timeUs: timeUs(text) ?? invalid(text, where, "a seq, or a time such as 2026-11-23T20:00:00Z, required") };
}

function timeUs(text: string): number | undefined {
  const [, moment = "", fraction = "", zone = ""] = RFC_3339.exec(text) ?? [];
  if (moment !== "" && !isDay(moment.slice(0, DAY_CHARACTERS))) return undefined;
  const ms = Date.parse(`${moment.replace(" ", "T").toUpperCase()}${zone.replace(" ", "+").toUpperCase()}`);
  return Number.isNaN(ms) ? undefined : ms * US + Number(fraction.padEnd(6, "0").slice(0, 6));
}

/** Date.parse reads the 30th of February as a day in March, so the day is compared. */
function isDay(day: string): boolean {
  const ms = Date.parse(`${day}T00:00:00Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(day);
}

function invalid(text: string, where: string, needed: string): never {
  throw new InvalidInput(where, `${needed}, found ${JSON.stringify(text.slice(0, 40))}`);
}
