/** KSYM_NAME_LEN, include/linux/kallsyms.h. */
const NAME_BYTES_MAX = 512;
const DIGIT = 1;
const LETTER = 2;
const PRINTED = 4;

/** isalpha(), isdigit() and isprint() of the kernel are those of Latin-1; "_" and "." are letters to BTF. */
const CLASSES = Uint8Array.from({ length: 256 }, (_, byte) => {
  if (byte >= 0x30 && byte <= 0x39) return DIGIT | PRINTED;
  const latin = byte >= 0xc0 && byte !== 0xd7 && byte !== 0xf7;
  if (latin || /[A-Za-z_.]/.test(String.fromCharCode(byte))) return LETTER | PRINTED;
  return (byte >= 0x20 && byte <= 0x7e) || byte >= 0xa0 ? PRINTED : 0;
});

/** From here to the next NUL: letters and digits; printed characters. Both: no more than KSYM_NAME_LEN. */
const WORD = 1;
const TEXT = 2;

/**
 * What the names of a string section are good for. Any byte of it may be where a name begins, and many names may end
 * alike: the section is looked at once, from its end.
 */
export class Names {
  readonly #strings: Buffer;
  /** WORD and TEXT, a byte of the section. */
  readonly #from: Uint8Array;

  /** `strings` ends with NUL. */
  constructor(strings: Buffer) {
    this.#strings = strings;
    this.#from = new Uint8Array(strings.length);
    let [length, known] = [0, WORD | TEXT];
    for (let at = strings.length - 1; at >= 0; at--) {
      const byte = strings[at] as number;
      if (byte === 0) [length, known] = [0, WORD | TEXT];
      else {
        length++;
        const is = CLASSES[byte] as number;
        if ((is & (LETTER | DIGIT)) === 0) known &= ~WORD;
        if ((is & PRINTED) === 0) known &= ~TEXT;
      }
      this.#from[at] = length <= NAME_BYTES_MAX ? known : 0;
    }
  }

  /** btf_name_offset_valid() */
  has(offset: number): boolean {
    return offset < this.#strings.length;
  }

  isEmpty(offset: number): boolean {
    return this.#strings[offset] === 0;
  }

  /** btf_name_valid_identifier(): as in C, but for "." and the letters of Latin-1. */
  isIdentifier(offset: number): boolean {
    const first = CLASSES[this.#strings[offset] as number] as number;
    return (first & LETTER) !== 0 && ((this.#from[offset] as number) & WORD) !== 0;
  }

  /** btf_name_valid_section() */
  isSection(offset: number): boolean {
    return !this.isEmpty(offset) && ((this.#from[offset] as number) & TEXT) !== 0;
  }
}
