/** The gateway serves the page that is built of the sources as they are. */
import { build, isFresh } from "../../viewer/build.ts"

export default async () => {
  if (!isFresh()) await build()
}
