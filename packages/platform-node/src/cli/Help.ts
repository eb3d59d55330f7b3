/**
 * What help tells besides arguments and flags: the settings that a command uses, what permissions are, and the exit codes.
 */

/** What stands below the help of a command; the command line as a whole uses every setting. */
export const below = (command: string | undefined): string => {
  const names = settingsOf[command ?? ""] ?? Object.keys(settings)
  return [
    ...(command === "run" ? [permissions] : []),
    [
      "ENVIRONMENT",
      ...Object.entries(settings).filter(([name]) => names.includes(name)).map(([name, text]) =>
        `  ${name.padEnd(24)}  ${text}`
      )
    ].join("\n"),
    exitStatus
  ].join("\n\n")
}

// internal

const settings: Readonly<Record<string, string>> = {
  OPENCODE_BASE_URL: "The server's URL",
  OPENCODE_SERVER_PASSWORD: "Its password; there is no flag for it, because others can read a command line",
  OPENCODE_DIRECTORY: "The project's folder",
  OPENCODE_TIMEOUT: `How long one request may take, for example "30 seconds"`,
  OPENCODE_TURN_DATABASE: "The SQLite file, memory, or a postgres:// URL, which may hold a password here\n" +
    `${" ".repeat(28)}(default: opencode-turn/turns.db in XDG_DATA_HOME or ~/.local/share)`,
  OPENCODE_BIN: "The OpenCode program for a server of its own (default: the package opencode-ai, else opencode)",
  NO_COLOR: "Turns colour off"
}

const server = ["OPENCODE_BASE_URL", "OPENCODE_SERVER_PASSWORD", "OPENCODE_DIRECTORY", "OPENCODE_TIMEOUT"]
const database = "OPENCODE_TURN_DATABASE"

/** Of the commands that do not use all of them. */
const settingsOf: Readonly<Record<string, ReadonlyArray<string>>> = {
  cancel: [...server, database],
  watch: [database, "NO_COLOR"],
  asks: [database],
  answer: [database, "NO_COLOR"],
  list: [database],
  show: [database],
  prune: [database],
  demo: ["OPENCODE_TIMEOUT", "OPENCODE_BIN", "NO_COLOR"]
}

const permissions = `PERMISSIONS
  ask     Shell commands, edits, web requests, subagents and the tools of MCP servers ask at the terminal:
          once, always, or reject. The agent's questions are asked there too.
  store   The same ask, and wait in the database until somebody answers: see opencode-turn asks and answer.
  deny    The same ask, and are refused with a word to the agent that nobody is there. Reading stays allowed.
  allow   OpenCode's own rules decide; what they ask is allowed once. Questions are dismissed.
  What a subagent does is under OpenCode's own rules: with ask, store and deny it is the subagent that is asked about.`

const exitStatus = `EXIT STATUS
  0 completed   1 error   2 invalid command line or setting   130 cancelled (143 by SIGTERM, 129 by SIGHUP)
  list, show and asks print what they can read, and exit 1 where stored rows cannot be read: these are named on standard error.`
