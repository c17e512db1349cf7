import type { Call } from "../call.ts";
import { manPage } from "../man_page.ts";

export async function man({ about, output }: Call): Promise<void> {
  output.text(manPage(about));
}
