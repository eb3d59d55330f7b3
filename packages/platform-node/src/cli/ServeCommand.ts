/**
 * Defines the commands `serve` and `link`, and their flags.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, directory, json, metricsPort, port, url } from "./CommandFlags.ts"

const host = Flag.String("host").pipe(
  Flag.withMetavar("ADDRESS"),
  Flag.withDescription("The address to listen on (default: 127.0.0.1, which only this machine reaches)"),
  Flag.withDefault("127.0.0.1")
)

const servedPort = port("port").pipe(
  Flag.withDescription("The port to listen on, 0 for any that is free (default: 4097)"),
  Flag.withDefault(4097)
)

const allowHost = Flag.String("allow-host").pipe(
  Flag.withMetavar("NAME"),
  Flag.withDescription(
    "Another host name under which the gateway is reached, for example that of a proxy. May be given several times"
  ),
  Flag.atLeast(0)
)

const allowOrigin = Flag.String("allow-origin").pipe(
  Flag.withMetavar("ORIGIN"),
  Flag.withDescription(
    "The origin of another page that may call, for example https://app.example.com. May be given several times"
  ),
  Flag.atLeast(0)
)

/** The command that serves turns over HTTP. */
export const serveCommand = Command.make(
  "serve",
  {
    url,
    directory: directory(),
    database,
    host,
    port: servedPort,
    metricsPort,
    allowHost,
    allowOrigin,
    permission: Flag.Literals("permission", ["store", "allow", "deny"]).pipe(
      Flag.withMetavar("store|allow|deny"),
      Flag.withDescription("What happens to the agent's asks: kept for a person, allowed, or refused (default: store)"),
      Flag.withDefault("store")
    ),
    json: json("Print the address and the link as a JSON object instead")
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/Serve.ts")), ({ serve }) =>
      serve({
        url: Option.getOrUndefined(input.url),
        directory: Option.getOrUndefined(input.directory),
        database: Option.getOrUndefined(input.database),
        host: input.host,
        port: input.port,
        metricsPort: Option.getOrUndefined(input.metricsPort),
        allowHosts: input.allowHost,
        allowOrigins: input.allowOrigin,
        permission: input.permission,
        json: input.json
      }))
).pipe(
  Command.withDescription(
    "Serves turns over HTTP, for browsers and other programs: start, follow, answer and stop them. It prints its address and a link that " +
      "signs a browser in, once, within 10 minutes; the command link prints a new one. It also carries on turns that lost their process, as resume --worker does. Ctrl-C stops it, and leaves " +
      "unfinished turns to the next worker."
  ),
  Command.withShortDescription("Serve turns over HTTP")
)

/** The command that prints a new link to the page of `serve`. */
export const linkCommand = Command.make(
  "link",
  {
    url: Flag.String("url").pipe(
      Flag.withMetavar("URL"),
      Flag.withDescription("The address under which the browser reaches the gateway (default: http://127.0.0.1:4097)"),
      Flag.withDefault("http://127.0.0.1:4097")
    ),
    json: json("Print the link as a JSON object instead")
  },
  (input) => Effect.flatMap(Effect.promise(() => import("./run/Link.ts")), ({ link }) => link(input))
).pipe(
  Command.withDescription(
    "Prints a new link that signs a browser in to the gateway of serve, once, within 10 minutes. It needs the token of the gateway, which " +
      "the user who started serve has."
  ),
  Command.withShortDescription("Print a link that signs a browser in")
)
