/** A request cannot be read: 400, and no event. `where`: a path into the body, such as "attr.key". */
export class InvalidInput extends Error {
  readonly where: string;

  constructor(where: string, found: string) {
    super(`${where}: ${found}`);
    this.name = "InvalidInput";
    this.where = where;
  }
}
