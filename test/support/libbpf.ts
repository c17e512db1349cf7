import { createRequire } from "node:module";

/** The installed libbpf, as far as it opens objects, and creates or reuses their maps. */

const LIBRARY = "libbpf.so.1";

/** struct bpf_object_open_opts up to `pin_root_path`: 0 u64 sz, 24 const char *pin_root_path. */
const OPEN_OPTS_BYTES = 32;
const PIN_ROOT_PATH = 24;

const PROTOTYPES = {
  setPrint: "void *libbpf_set_print(void *print)",
  openFile: "void *bpf_object__open_file(const char *path, void *opts)",
  load: "int bpf_object__load(void *object)",
  close: "void bpf_object__close(void *object)",
  nextMap: "void *bpf_object__next_map(void *object, void *map)",
  name: "const char *bpf_map__name(void *map)",
  setAutocreate: "int bpf_map__set_autocreate(void *map, bool autocreate)",
  fd: "int bpf_map__fd(void *map)",
  innerMap: "void *bpf_map__inner_map(void *map)",
  type: "int bpf_map__type(void *map)",
  keySize: "uint bpf_map__key_size(void *map)",
  valueSize: "uint bpf_map__value_size(void *map)",
  maxEntries: "uint bpf_map__max_entries(void *map)",
  mapFlags: "uint bpf_map__map_flags(void *map)",
} as const;

type Pointer = object | null;
type Calls = Readonly<Record<keyof typeof PROTOTYPES, (...args: readonly unknown[]) => unknown>>;
type Koffi = typeof import("koffi");

/** What an object's definition of a map says. */
export interface Definition {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly mapFlags: number;
  readonly inner: Definition | null;
}

export class Libbpf {
  readonly #koffi: Koffi;
  readonly #calls: Calls;

  constructor(koffi: Koffi, calls: Calls) {
    this.#koffi = koffi;
    this.#calls = calls;
    calls.setPrint(null);
  }

  /** The maps that an object defines, by their names. */
  definitions(path: string): ReadonlyMap<string, Definition> {
    return this.#opened(path, "/", (object) => {
      const maps = [...this.#maps(object)];
      return new Map(maps.map((map) => [this.#calls.name(map) as string, this.#definition(map)]));
    });
  }

  /**
   * Loads an object with one of its maps alone, below a pin root (null: libbpf's default, /sys/fs/bpf): libbpf reuses the map that is pinned there, or makes
   * and pins another. Answers what `use` makes of its descriptor; a negative errno: libbpf refuses.
   */
  load<Answer>(path: string, pinRoot: string | null, name: string, use: (fd: number) => Answer): Answer | number {
    return this.#opened(path, pinRoot, (object) => {
      const maps = [...this.#maps(object)];
      for (const map of maps) if (this.#calls.name(map) !== name) this.#calls.setAutocreate(map, false);
      const ret = this.#calls.load(object) as number;
      return ret < 0 ? ret : use(this.#calls.fd(maps.find((map) => this.#calls.name(map) === name)) as number);
    });
  }

  #opened<Answer>(path: string, pinRoot: string | null, use: (object: Pointer) => Answer): Answer {
    const root = Buffer.from(`${pinRoot}\0`);
    const opts = Buffer.alloc(OPEN_OPTS_BYTES);
    opts.writeBigUInt64LE(BigInt(opts.length), 0);
    if (pinRoot !== null) opts.writeBigUInt64LE(this.#koffi.address(root), PIN_ROOT_PATH);
    const object = this.#calls.openFile(path, opts) as Pointer;
    // To name the path here keeps it alive until libbpf has copied it.
    if (object === null) throw new Error(`opening ${path} below ${root}: errno ${this.#koffi.errno()}`);
    try {
      return use(object);
    } finally {
      this.#calls.close(object);
    }
  }

  *#maps(object: Pointer): Iterable<Pointer> {
    let map = this.#calls.nextMap(object, null) as Pointer;
    for (; map !== null; map = this.#calls.nextMap(object, map) as Pointer) yield map;
  }

  #definition(map: Pointer): Definition {
    const inner = this.#calls.innerMap(map) as Pointer;
    return {
      type: this.#calls.type(map) as number,
      keySize: this.#calls.keySize(map) as number,
      valueSize: this.#calls.valueSize(map) as number,
      maxEntries: this.#calls.maxEntries(map) as number,
      mapFlags: this.#calls.mapFlags(map) as number,
      inner: inner === null ? null : this.#definition(inner),
    };
  }
}

/** The library, or why there is none. */
export function openLibbpf(): Libbpf | string {
  try {
    const koffi: Koffi = createRequire(import.meta.url)("koffi");
    const library = koffi.load(LIBRARY);
    const calls = Object.entries(PROTOTYPES).map(([name, prototype]) => [name, library.func(prototype)]);
    return new Libbpf(koffi, Object.fromEntries(calls));
  } catch (error) {
    return `loading ${LIBRARY}: ${(error as Error).message}`;
  }
}
