import { Contents } from "./contents.ts";
import { Judge } from "./judge.ts";
import { Lossy } from "./lossy.ts";
import type { Subject } from "./subject.ts";
import { Twins } from "./twins.ts";

/** What every step works with: who asks and compares, what both have, and what is in it. */
export interface Bench {
  readonly judge: Judge;
  readonly twins: Twins;
  readonly contents: Contents;
  readonly lossy: Lossy;
}

export function makeBench(service: Subject, kernel: Subject, possibleCpus: number): Bench {
  const judge = new Judge(service, kernel);
  const twins = new Twins(judge, possibleCpus);
  const contents = new Contents(judge, twins);
  return { judge, twins, contents, lossy: new Lossy(judge, contents) };
}
