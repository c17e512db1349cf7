/**
 * Single elements, and pages of elements, by descriptor and by map. `server/hot.ts` answers most requests for single
 * elements before they reach these routes.
 */

import { CMD } from "../../abi/service.ts";
import { readFormedBody, readHexBody } from "../../codec/body.ts";
import { bytes } from "../../codec/scalars.ts";
import type { Settings } from "../../config.ts";
import { WHOLE_MAP } from "../../syscall/elements.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { body, octets, problems, ran } from "../schemas/answers.ts";
import { CLOSED, ElementLines, FormedBody, hex, limit, seq } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { takeOctets } from "../server/bodies.ts";
import { type Bulk, isHead, sendElements, sendLines, sendPages, sendValue } from "../server/bulk.ts";
import { must } from "../server/commands.ts";
import type { Flight } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { conditionalFlags, NDJSON, OCTETS, wants } from "../server/negotiation.ts";
import { refused } from "../server/problems.ts";
import { bodyByHand } from "../server/validation.ts";
import { VALUE_EXAMPLE } from "../server/wanted_bodies.ts";
import { elementPages, isAll, lastKey } from "../streams/element_pages.ts";
import { AS_OF, at, mustRead, type ReadParts, read } from "../views/as_of.ts";
import {
  as,
  bytesOf,
  checkMap,
  elementPrinter,
  formFields,
  formsOf,
  type KnownTypes,
  type MapForms,
  onTypedMap,
  readKey,
} from "../views/forms.ts";
import { checkKeyPlace, type LedgerParts, nextPlace, readKeyPlace } from "../views/positions.ts";
import { originOf, VIEWS, type View } from "../views/targets.ts";

const PAGE_DEFAULT = 1000;
const AsQuery = Type.Object({ as });

interface ElementRouteParts extends ReadParts, LedgerParts, Bulk {
  readonly flight: Flight;
  readonly knownTypes: KnownTypes;
  readonly settings: Pick<Settings, "pageElementsMax">;
}

export async function elementRoutes(app: App, options: RouteOptions<ElementRouteParts>): Promise<void> {
  for (const view of VIEWS) {
    lookupElement(app, view, options);
    await app.register(async (scope: App) => updateElement(scope, view, options));
    deleteElement(app, view, options);
    listElements(app, view, options);
    nextKey(app, view, options);
  }
}

function lookupElement(app: App, view: View, { parts }: RouteOptions<ElementRouteParts>): void {
  app.get(`${view.prefix}/elements/:key`, {
    schema: {
      operationId: `lookupElement${view.suffix}`,
      summary: "Look up an element",
      description: "BPF_MAP_LOOKUP_ELEM. With Accept: application/octet-stream the body is the bytes of the value.",
      tags: [view.tag],
      params: view.keyParams,
      querystring: Type.Object({ at, as }),
      response: {
        200: withOctets(
          ran("The value of the element, and the seq of the event.", Type.Ref("Value"), { value: "2a000000", seq: 17 }),
        ),
        ...problems(
          view.is,
          ...view.errnos,
          "ENOENT",
          "EFAULT",
          "ENOSPC",
          "ENOTSOCK",
          "EOPNOTSUPP",
          "ENOTSUPP",
          ...AS_OF,
        ),
      },
    },
    handler: async (request, reply) => {
      const origin = originOf(request);
      const forms = await formsOf(parts, request, reply, request.query.as);
      const key = readKey(forms, request.params.key);
      const ran = await mustRead(parts, request, reply, {
        cmd: CMD.BPF_MAP_LOOKUP_ELEM,
        ...origin,
        key,
        value: null,
        flags: 0n,
        exact: true,
      });
      checkMap(forms, ran.outcome.map);
      const value = ran.outcome.value as Buffer;
      if (wants(request.headers, OCTETS)) return reply.type(OCTETS).send(value);
      return sendValue(parts, reply, value, ran.seq, forms === null ? "" : formFields(forms, key, value));
    },
  });
}

function updateElement(app: App, view: View, { parts }: RouteOptions<ElementRouteParts>): void {
  takeOctets(app, parts);
  app.put(`${view.prefix}/elements/:key`, {
    schema: {
      operationId: `updateElement${view.suffix}`,
      summary: "Write an element",
      description:
        "BPF_MAP_UPDATE_ELEM. If-None-Match: * means BPF_NOEXIST, If-Match: * means BPF_EXIST. A body with Content-Type: " +
        "application/octet-stream is the bytes of the value. With `as`, `typed` or `formatted` may take the place of `value`; if several are " +
        "given, they must be of the same bytes. A typed value clears the padding.",
      tags: [view.tag],
      params: view.keyParams,
      querystring: AsQuery,
      headers: Type.Object({
        "if-none-match": Type.Optional(
          Type.String({ description: "Only `*`: an element with this key must not exist." }),
        ),
        "if-match": Type.Optional(Type.String({ description: "Only `*`: an element with this key must exist." })),
      }),
      body: {
        content: {
          "application/json": {
            schema: body(FormedBody, VALUE_EXAMPLE),
          },
          [OCTETS]: { schema: body(octets.schema, octets.example) },
        },
      },
      response: {
        200: ran("The seq of the event that wrote the element.", Type.Ref("Done"), { seq: 17 }),
        ...problems(
          { ...view.is, body: true },
          ...view.errnos,
          "EBADF",
          "ENOENT",
          "EFAULT",
          "EEXIST",
          "E2BIG",
          "ENOSPC",
          "ENOMEM",
          "ENODEV",
          "ENOTSOCK",
          "EOVERFLOW",
          "EBUSY",
          "EOPNOTSUPP",
          "ENOTSUPP",
        ),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const origin = originOf(request);
      const read = request.query.as === undefined ? readHexBody : readFormedBody;
      const given = Buffer.isBuffer(request.body) ? { value: request.body, flags: 0n } : read(request.body);
      const forms = await formsOf(parts, request, reply, request.query.as);
      const key = readKey(forms, request.params.key);
      const value = forms === null ? (given.value as Buffer) : bytesOf(forms, given);
      const flags = conditionalFlags(request.headers, given.flags);
      const { seq } = await must(parts, reply, {
        cmd: CMD.BPF_MAP_UPDATE_ELEM,
        ...onTypedMap(origin, forms),
        key,
        value,
        flags,
        exact: true,
      });
      return { seq };
    },
  });
}

function deleteElement(app: App, view: View, { parts }: RouteOptions<ElementRouteParts>): void {
  app.delete(`${view.prefix}/elements/:key`, {
    schema: {
      operationId: `deleteElement${view.suffix}`,
      summary: "Delete an element",
      description: "BPF_MAP_DELETE_ELEM.",
      tags: [view.tag],
      params: view.keyParams,
      querystring: AsQuery,
      response: {
        200: ran("The seq of the event that deleted the element.", Type.Ref("Done"), { seq: 17 }),
        ...problems(view.is, ...view.errnos, "ENOENT", "EFAULT", "EBUSY", "EOPNOTSUPP", "ENOTSUPP"),
      },
    },
    handler: async (request, reply) => {
      const forms = await formsOf(parts, request, reply, request.query.as);
      const key = readKey(forms, request.params.key);
      const { seq } = await must(parts, reply, {
        cmd: CMD.BPF_MAP_DELETE_ELEM,
        ...onTypedMap(originOf(request), forms),
        key,
        value: null,
        flags: 0n,
        exact: true,
      });
      return { seq };
    },
  });
}

function listElements(app: App, view: View, { parts }: RouteOptions<ElementRouteParts>): void {
  const pageMax = parts.settings.pageElementsMax;
  app.get(`${view.prefix}/elements`, {
    schema: {
      operationId: `listElements${view.suffix}`,
      summary: "List elements",
      description:
        "A page in the state's order. Each page shows its own moment, unless `at` names one; a page of large elements has fewer than " +
        "`limit`. With Accept: application/x-ndjson the answer is the whole map as it was at one moment, one element a line.",
      tags: [view.tag],
      params: view.params,
      querystring: Type.Object({
        after: Type.Optional(
          Type.String({
            description: "The previous page's `next`, or a key in hex: the page begins after it.",
            examples: ["01000000"],
          }),
        ),
        limit: limit(pageMax, PAGE_DEFAULT),
        at,
        as,
      }),
      response: {
        200: withLines(
          ran("A page of elements, or the whole map.", Type.Ref("ElementPage"), {
            elements: [{ key: "01000000", value: "2a000000" }],
            next: null,
            seq: 17,
          }),
        ),
        ...problems(view.is, ...view.errnos, "foreign-position", ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const origin = originOf(request);
      const { query } = request;
      const whole = wants(request.headers, NDJSON);
      const asked = query.after === undefined ? null : readKeyPlace(parts, query.after, "after");
      const limit = !whole ? query.limit : isHead(request) ? 1 : WHOLE_MAP;
      const command = { cmd: CMD.MAP_ELEMENTS, ...origin, attr: { after: asked?.key ?? null, limit } };
      const forms = await formsOf(parts, request, reply, query.as);
      const print = forms === null ? undefined : elementPrinter(forms);
      const first = await read(parts, request, reply, command);
      const { outcome, seq } = first;
      checkKeyPlace(asked, outcome.map, "after");
      if (outcome.errno !== 0) throw refused(command, outcome, seq);
      checkMap(forms, outcome.map);
      const rest = (last: Outcome | null): object => ({
        next: last?.out?.more === true ? nextPlace(parts, last.map, lastKey(last)) : null,
        seq,
      });
      const pages = elementPages(parts, parts.flight.loadOf(reply.raw), request.caller, limit, first);
      if (whole) return sendLines(parts, reply, pages, print);
      return isAll(first, limit)
        ? sendElements(parts, reply, outcome, { ...rest(outcome) }, print, textOf(forms, outcome))
        : sendPages(parts, reply, pages, rest, print);
    },
  });
}

/** The most characters that forms add to the elements. */
function textOf(forms: MapForms | null, { out }: Outcome): number {
  return forms === null ? 0 : (out?.count ?? 0) * forms.map.textMax;
}

function nextKey(app: App, view: View, { parts }: RouteOptions<ElementRouteParts>): void {
  app.get(`${view.prefix}/next-key`, {
    schema: {
      operationId: `nextKey${view.suffix}`,
      summary: "Get the key after a key",
      description: "BPF_MAP_GET_NEXT_KEY. Without `key` the first key of the map. ENOENT after the last key.",
      tags: [view.tag],
      params: view.params,
      querystring: Type.Object({
        key: Type.Optional(Type.String({ description: "A key in hex.", examples: ["01000000"] })),
        at,
      }),
      response: {
        200: ran(
          "The next key, and the seq of the event.",
          Type.Object({ next_key: hex(), seq: seq() }, { $id: "NextKey", ...CLOSED }),
          {
            next_key: "02000000",
            seq: 17,
          },
        ),
        ...problems(view.is, ...view.errnos, "ENOENT", "EFAULT", "EOPNOTSUPP", "ENOTSUPP", ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const origin = originOf(request);
      const { key: given } = request.query;
      const key = given === undefined ? null : bytes(given, "key");
      const ran = await mustRead(parts, request, reply, {
        cmd: CMD.BPF_MAP_GET_NEXT_KEY,
        ...origin,
        key,
        value: null,
        flags: 0n,
        exact: true,
      });
      return { next_key: (ran.outcome.value as Buffer).toString("hex"), seq: ran.seq };
    },
  });
}

type Answer = ReturnType<typeof ran>;

function withOctets(answer: Answer): Answer {
  return { ...answer, content: { ...answer.content, [OCTETS]: octets } };
}

function withLines(answer: Answer): Answer {
  const example = '{"key":"01000000","value":"2a000000"}\n{"key":"02000000","value":"2b000000"}\n';
  return { ...answer, content: { ...answer.content, [NDJSON]: { schema: ElementLines, example } } };
}
