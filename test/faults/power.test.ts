import t from "tap";
import { losePower } from "./power.ts";

/** So many in a test run; `npm run faults` has more. */
const ROUNDS = Number(process.env.ROUNDS ?? 5);

t.test("the power is lost under load: nothing answered is lost, and no checkpoint", (t) => losePower(t, ROUNDS));
