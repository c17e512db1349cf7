/** What a caller sent cannot be read: 400, and no event. `where` is a path into the body, as in "attr.key". */
export class InvalidInput extends Error {
  readonly where: string;

  constructor(where: string, found: string) {
    super(`${where}: ${found}`);
    this.name = "InvalidInput";
    this.where = where;
  }
}
