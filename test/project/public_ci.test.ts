import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parseDocument } from "yaml";

/** The public CI, issue forms and the devcontainer: their syntax, and that they say what README.md and package.json say. */

const ROOT = join(import.meta.dirname, "../..");
const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");

function yaml(file: string): unknown {
  const document = parseDocument(read(file), { strict: true, uniqueKeys: true });
  t.strictSame([...document.errors, ...document.warnings], [], file);
  return document.toJS();
}

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}

interface Job {
  readonly "runs-on": string;
  readonly "timeout-minutes": number;
  readonly env?: Readonly<Record<string, string>>;
  readonly strategy?: { readonly matrix: { readonly os: readonly string[] } };
  readonly steps: readonly Step[];
}

const { jobs, permissions } = yaml(".github/workflows/ci.yml") as {
  readonly permissions: unknown;
  readonly jobs: Readonly<Record<"test" | "kernel", Job>>;
};

t.test("the workflow may only read, and each job ends", (t) => {
  t.strictSame(permissions, { contents: "read" });
  for (const [name, job] of Object.entries(jobs)) t.ok(job["timeout-minutes"] > 0, name);
  t.end();
});

t.test("x64 and arm64 run the README's test line", (t) => {
  t.strictSame(jobs.test.strategy?.matrix.os, ["ubuntu-24.04", "ubuntu-24.04-arm"]);
  const [line] = jobs.test.steps.flatMap(({ run }) => run ?? []);
  t.ok(line !== undefined && read("README.md").includes(line), `README.md has ${line}`);
  t.ok(line !== undefined && read(".ci/run").includes(line), `.ci/run has ${line}`);
  t.end();
});

t.test("the kernel's job runs all tests as root, and allows no skip", (t) => {
  t.strictSame(jobs.kernel.env, { SKIPS: "fail" });
  const lines = jobs.kernel.steps.flatMap(({ run }) => run ?? []);
  t.ok(lines.includes("npm ci"));
  t.match(lines.at(-1), /^sudo --preserve-env=SKIPS,CI .* npm test$/);
  t.end();
});

t.test("each job has the Node that package.json asks for", (t) => {
  const [least] = /\d+/.exec(JSON.parse(read("package.json")).engines.node) ?? [];
  for (const { steps } of Object.values(jobs))
    for (const step of steps.filter(({ uses }) => uses?.startsWith("actions/setup-node@")))
      t.equal(String(step.with?.["node-version"]), least);
  for (const { steps } of Object.values(jobs))
    for (const { uses } of steps) if (uses !== undefined) t.match(uses, /^actions\/[a-z-]+@v\d+$/);
  t.match(read(".devcontainer/Dockerfile"), `FROM node:${least}-`);
  t.end();
});

t.test("issue forms have a name, a description and fields with ids of their own", (t) => {
  const forms = readdirSync(join(ROOT, ".github/ISSUE_TEMPLATE")).filter((file) => file !== "config.yml");
  t.ok(forms.length > 0);
  for (const file of forms) {
    const form = yaml(`.github/ISSUE_TEMPLATE/${file}`) as {
      readonly name?: string;
      readonly description?: string;
      readonly body: readonly {
        readonly type: string;
        readonly id?: string;
        readonly attributes: { readonly label?: string };
      }[];
    };
    t.ok(form.name && form.description, file);
    const fields = form.body.filter(({ type }) => type !== "markdown");
    t.equal(new Set(fields.map(({ id }) => id)).size, fields.length, file);
    for (const { type, attributes } of fields) {
      t.ok(["input", "textarea", "dropdown", "checkboxes"].includes(type), type);
      t.ok(attributes.label, file);
    }
  }
  t.end();
});

t.test("the devcontainer builds a Dockerfile that is there", (t) => {
  const { build } = JSON.parse(read(".devcontainer/devcontainer.json").replace(/^\s*\/\/.*$/gm, "")) as {
    readonly build: { readonly dockerfile: string };
  };
  t.ok(existsSync(join(ROOT, ".devcontainer", build.dockerfile)));
  t.end();
});
