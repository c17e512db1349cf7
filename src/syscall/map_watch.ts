/** `pathname`: the pin's path; "": the map itself, or any of its pins. `map` null: any map may have changed. */
type MapChanged = (map: number | null, pathname: string) => void;

/**
 * Calls one listener for each map that is created or freed, and each pin that is made or removed, after the tables have
 * changed. If the cells go back to an earlier state, it is called for the same maps again.
 */
export class MapWatch {
  onChange: MapChanged | null = null;
  /** The maps that have changed since the last `settle`. */
  #unsettled: number[] = [];

  changed(map: number, pathname = ""): void {
    if (this.onChange === null) return;
    this.#unsettled.push(map);
    this.onChange(map, pathname);
  }

  settle(): void {
    this.#unsettled = [];
  }

  /** The cells have gone back, not before the last `settle`. */
  takeBack(): void {
    for (const map of this.#unsettled) this.onChange?.(map, "");
  }

  /** Any map may have changed. */
  forget(): void {
    this.onChange?.(null, "");
  }
}
