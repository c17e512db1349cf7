import type { Btf } from "../btf/btf.ts";
import { BTF_KIND } from "../maps/btf_types.ts";
import { type Codec, codecOfTag } from "./codec.ts";

/** The longest text of a tag that is read: of a static_map with all of its texts. */
const TAG_LENGTH_MAX = 2 ** 21;
/** The component of a tag that is for a type as a whole. */
const WHOLE = -1;

/** Codecs by the types and members that declaration tags are for. Of several codecs for the same thing the first counts. */
export class DeclTags {
  readonly #codecs = new Map<number, Map<number, Codec>>();

  constructor(btf: Btf) {
    let left = TAG_LENGTH_MAX;
    for (let id = 1; id < btf.count && left > 0; id++) {
      if (btf.kind(id) !== BTF_KIND.DECL_TAG) continue;
      const text = btf.wholeName(id);
      left -= text.length;
      const codec = codecOfTag(text);
      if (codec !== null) this.#add(btf.target(id), btf.component(id), codec);
    }
  }

  /** The codec of a typedef or variable; null: it has none. */
  ofType(id: number): Codec | null {
    return this.ofMember(id, WHOLE);
  }

  ofMember(id: number, member: number): Codec | null {
    return this.#codecs.get(id)?.get(member) ?? null;
  }

  #add(id: number, component: number, codec: Codec): void {
    const its = this.#codecs.get(id) ?? new Map<number, Codec>();
    if (!its.has(component)) its.set(component, codec);
    this.#codecs.set(id, its);
  }
}
