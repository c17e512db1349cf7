import t, { type Test } from "tap";
import { Kernel } from "../../conformance/kernel.ts";
import { HOST, Service } from "../../conformance/service.ts";
import type { Subject } from "../../conformance/subject.ts";
import { unfitForKernel } from "../support/bpffs.ts";

const UNFIT = unfitForKernel();

/** Tables of what lives: sessions, descriptors, maps with their counts, holds and names, objects with theirs. */
const LIVING = new Set("sfmnrkoiqt");

/** A number that no descriptor has, in a session or in a test's process. */
export const NOT_OPEN = 9999;

/**
 * One scenario, two subjects: the service always, the live kernel where bpf(2) answers. The service's state must be what
 * its log adds up to, and when its session has ended nothing may be left of it.
 */
export function onBoth(name: string, scenario: (t: Test, subject: Subject) => void): void {
  onService(name, scenario);
  t.test(`${name}, as the live kernel has it`, { skip: UNFIT ?? false }, async (t) => {
    const kernel = new Kernel(HOST.possibleCpus);
    try {
      scenario(t, kernel);
    } finally {
      kernel.end();
    }
  });
}

/** For what a kernel cannot be asked, or answers by rules that we chose others for. */
export function onService(name: string, scenario: (t: Test, service: Service) => void): void {
  t.test(name, async (t) => {
    const service = new Service();
    scenario(t, service);
    checkFold(t, service);
    service.end();
    checkFold(t, service);
    const left = Object.keys(service.cells().state).filter((cell) =>
      LIVING.has(Buffer.from(cell, "hex").toString()[0] ?? ""),
    );
    t.same(left, [], "the session's end leaves nothing");
  });
}

function checkFold(t: Test, service: Service): void {
  const { state, fold } = service.cells();
  t.same(fold, state, "the log adds up to the state");
}
