import { test } from "tap";
import { DOCUMENT, Service } from "../service.ts";

test("every request needs a token where tokens are configured, probes and the document apart", async (t) => {
  const authenticate = (token: string): string | null => (token === "a" ? "alice" : null);
  const service = await Service.start(t, { authenticate });
  const status = async (url: string, authorization?: string): Promise<[number, unknown]> => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const response = await service.send("GET", url, undefined, headers);
    return [response.statusCode, response.headers["www-authenticate"]];
  };
  t.same(await status("/v1/maps"), [401, "Bearer"]);
  t.same(await status("/v1/maps", "Basic YTph"), [401, "Bearer"]);
  t.same(await status("/v1/maps", "Bearer b"), [401, 'Bearer error="invalid_token"']);
  t.same(await status("/metrics"), [401, "Bearer"]);
  t.same(await status("/nowhere"), [401, "Bearer"]);
  t.same(await status("/v1/maps", "bearer a"), [200, undefined]);
  for (const url of ["/livez", "/readyz", "/openapi.json"]) t.same(await status(url), [200, undefined]);
  t.equal((await service.app.inject("/docs/")).statusCode, 200);
  await service.session({ authorization: "Bearer a" });
  t.equal(service.log.rows[0]?.caller, "alice");
});

test("pages of other origins are refused, the service's own are not", async (t) => {
  const service = await Service.start(t);
  const open = async (origin: string) =>
    (await service.send("POST", "/v1/sessions", undefined, { origin, host: "localhost:8620" })).statusCode;
  t.equal(await open("http://localhost:8620"), 201);
  t.equal(await open("http://localhost:3000"), 403);
  t.equal(await open("null"), 403);
});

/** What browsers send with requests that pages of `site` have them make. */
const images = (site: string) => ({ "sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" });
const links = (site: string) => ({
  "sec-fetch-site": site,
  "sec-fetch-mode": "navigate",
  "sec-fetch-dest": "document",
});

test("no request of a page of another origin is taken, whatever it asks for", async (t) => {
  const service = await Service.start(t);
  const session = await service.session();
  await service.send("POST", `${session}/maps`, {
    map_type: "BPF_MAP_TYPE_HASH",
    key_size: 4,
    value_size: 4,
    max_entries: 2,
  });
  const { lastSeq } = service.log;
  const { paths } = DOCUMENT as unknown as { paths: Record<string, Record<string, unknown>> };
  const asked = Object.entries(paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => [method.toUpperCase(), path.replace(/\{\w+\}/g, "1")] as const),
  );
  const hot = ["GET", "PUT", "DELETE"].flatMap((method) => [
    [method, "/v1/maps/1/elements/00000001"] as const,
    [method, `${session}/fds/3/elements/00000001`] as const,
  ]);
  t.ok(asked.length > 80);
  const documents = new Set(["/openapi.json", "/docs", "/docs/", "/docs/static/index.html"]);
  const pages = [...documents].map((path) => ["GET", path] as const);
  for (const site of ["cross-site", "same-site", "cross-site, same-origin", "elsewhere"])
    for (const headers of [images(site), links(site)])
      for (const [method, path] of [...asked, ...hot, ...pages, ["GET", "/nowhere"] as const]) {
        const answer = await service.app.inject({ method: method as "GET", url: path, headers });
        const isTaken = answer.statusCode !== 403 || answer.json().type !== "urn:mapledger:problem:foreign-page";
        const isRight = isTaken === (headers["sec-fetch-mode"] === "navigate" && documents.has(path));
        if (!isRight) t.fail(`${method} ${path} from ${site}: ${answer.statusCode}`);
        if (answer.headers["x-content-type-options"] !== "nosniff") t.fail(`${method} ${path} may be sniffed`);
      }
  t.equal(service.log.lastSeq, lastSeq, "no event tells of any");
});

test("pages of its own, and what people type, are answered", async (t) => {
  const service = await Service.start(t);
  for (const site of ["same-origin", "none"])
    for (const headers of [images(site), links(site)]) {
      const { statusCode, headers: got } = await service.send("GET", "/v1/maps", undefined, headers);
      t.equal(statusCode, 200);
      t.equal(got["x-content-type-options"], "nosniff");
    }
  const posted = { ...links("cross-site"), host: "localhost" };
  t.equal((await service.app.inject({ method: "POST", url: "/docs/", headers: posted })).statusCode, 403);
});

test("what the framework refuses keeps its status", async (t) => {
  const service = await Service.start(t);
  for (const path of ["/docs/static/.env", "/docs/static/nothing.js", "/docs/static/%2e%2e/%2e%2e/package.json"]) {
    const { statusCode, body } = await service.app.inject(path);
    t.ok(statusCode >= 400 && statusCode < 500, `${path}: ${statusCode} ${body}`);
  }
});
