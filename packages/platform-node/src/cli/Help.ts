/**
 * The help below the flags of a command: its settings, the meaning of permissions, and the exit codes.
 */

/** The text below the help of a command. The top-level help lists every setting. */
export const below = (command: string | undefined): string => {
  const names = settingsOf[command ?? ""] ?? Object.keys(settings)
  const width = Math.max(...names.map((name) => name.length))
  return [
    ...(command === "run" ? [permissions] : []),
    [
      "ENVIRONMENT",
      ...Object.entries(settings).filter(([name]) => names.includes(name)).map(([name, text]) =>
        `  ${name.padEnd(width)}  ${text.replaceAll("\n", `\n${" ".repeat(width + 4)}`)}`
      )
    ].join("\n"),
    exitStatus
  ].join("\n\n")
}

// internal

const settings: Readonly<Record<string, string>> = {
  OPENCODE_BASE_URL: "The server's URL",
  OPENCODE_SERVER_PASSWORD: "The server's password; it has no flag, because others can read a command line",
  OPENCODE_DIRECTORY: "The project's folder",
  OPENCODE_TIMEOUT: `The maximum time of one request, for example "30 seconds"`,
  OPENCODE_TURN_DATABASE: "The SQLite file, memory, or a postgres:// URL, which may hold a password here\n" +
    "(default: opencode-turn/turns.db in XDG_DATA_HOME or ~/.local/share)",
  OPENCODE_TURN_TOKEN:
    "The token of serve and link (default: a random one, kept in the file gateway-token beside the default database)",
  OPENCODE_BIN:
    "The OpenCode program for servers that a command starts (default: the package opencode-ai, else opencode)",
  NO_COLOR: "Turns colour off",
  OTEL_EXPORTER_OTLP_ENDPOINT: "The collector of traces, metrics and logs (default: none, and nothing is sent);\n" +
    "OTEL_SERVICE_NAME and the other variables of OpenTelemetry's exporter work as well"
}

const server = ["OPENCODE_BASE_URL", "OPENCODE_SERVER_PASSWORD", "OPENCODE_DIRECTORY", "OPENCODE_TIMEOUT"]
const database = "OPENCODE_TURN_DATABASE"
const telemetry = "OTEL_EXPORTER_OTLP_ENDPOINT"

/** The commands that use only some of the settings. */
const settingsOf: Readonly<Record<string, ReadonlyArray<string>>> = {
  link: ["OPENCODE_TURN_TOKEN"],
  cancel: [...server, database],
  watch: [database, "NO_COLOR"],
  fork: [...server, database, "OPENCODE_BIN"],
  revert: [...server, database, "OPENCODE_BIN"],
  unrevert: [...server, database, "OPENCODE_BIN"],
  compact: [...server, database, "OPENCODE_BIN"],
  asks: [database],
  answer: [database, "NO_COLOR"],
  list: [database],
  show: [database],
  prune: [database],
  run: [...server, database, "OPENCODE_BIN", "NO_COLOR", telemetry],
  resume: [...server, database, "OPENCODE_BIN", "NO_COLOR", telemetry],
  mcp: [...server, database, "OPENCODE_BIN", telemetry],
  demo: ["OPENCODE_TIMEOUT", "OPENCODE_BIN", "NO_COLOR"]
}

const permissions = `PERMISSIONS
  ask     Shell commands, edits, web requests, subagents and tools of MCP servers need your permission at the terminal:
          once, always, or reject. You answer the agent's questions there too.
  store   The same actions need permission. The asks wait in the database: see opencode-turn asks and answer.
  deny    The same actions are refused, and the agent is told that nobody can answer. Reading stays allowed.
  allow   OpenCode's own rules decide. Whatever they ask is allowed once, and questions are dismissed.
  Inside a subagent OpenCode's own rules decide. With ask, store and deny, starting a subagent needs permission.

  The beta of OpenCode 2.x (opencode2) takes these rules in its configuration only, for subagents as well. A server that the
  command starts gets them there. One at --url needs them in its own configuration for ask, store and deny:
    {"permission":{"bash":"ask","edit":"ask","task":"ask","webfetch":"ask","websearch":"ask","codesearch":"ask","*_*":"ask"}}`

const exitStatus = `EXIT STATUS
  0 completed   1 error   2 invalid command line or setting   130 cancelled (143 by SIGTERM, 129 by SIGHUP)
  list, show and asks print all readable rows. If some rows are unreadable, they name them on standard error and exit 1.`
