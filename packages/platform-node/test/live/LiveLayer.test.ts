import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { ConversationId, SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { TraceLog, Tracer } from "@opencode-turn/core/Tracer"
import * as Tracers from "@opencode-turn/core/Tracer"
import { checkDatabase, LiveLayer } from "@opencode-turn/platform-node/LiveLayer"
import { ConfigProvider, Effect, FileSystem, Layer, Option, Redacted } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

const configured = (settings: Record<string, string>) =>
  LiveLayer.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(settings))))

const conversation = ConversationId.make("c1")
const session = SessionId.make("ses_1")
const remember = Effect.flatMap(SessionStore, (store) => store.setSession(conversation, Option.none(), session))
const recall = Effect.flatMap(SessionStore, (store) => store.getSession(conversation))

/** Answers every request with the health of a server, and remembers its headers and path. */
const healthy = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; readonly seen: ReadonlyArray<string>; readonly close: () => void }>(
    (resume) => {
      const seen: Array<string> = []
      const server = createServer((request, response) => {
        const directory = request.headers["x-opencode-directory"]
        const named = directory === undefined ? "" : ` ${String(directory)}`
        seen.push(`${request.url} ${request.headers.authorization ?? "-"}${named}`)
        response.setHeader("content-type", "application/json")
        response.end(
          JSON.stringify(request.url?.startsWith("/global") === true ? { healthy: true, version: "1.18.33" } : [])
        )
      })
      server.listen(0, "127.0.0.1", () => {
        const { port }: AddressInfo = Object(server.address())
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, seen, close: () => void server.close() }))
      })
    }
  ),
  ({ close }) => Effect.sync(close)
)

it.layer(NodeServices.layer, { excludeTestServices: true })("LiveLayer", (it) => {
  it.effect("takes the server, its password and the directory from the configuration", () =>
    Effect.gen(function*() {
      const { seen, url } = yield* healthy
      yield* Effect.flatMap(Client, (client) => client.questions).pipe(Effect.provide(configured({
        OPENCODE_BASE_URL: url,
        OPENCODE_SERVER_PASSWORD: "secret",
        OPENCODE_DIRECTORY: "/some/project",
        OPENCODE_TURN_DATABASE: "memory"
      })))
      const authorization = `Basic ${Buffer.from("opencode:secret").toString("base64")}`
      assert.deepStrictEqual(seen.map((line) => line.replace(/^\/global\/health\S*/, "/global/health")), [
        `/global/health ${authorization}`,
        `/question ${authorization} %2Fsome%2Fproject`
      ])
    }))

  it.effect("prefers settings given in code", () =>
    Effect.gen(function*() {
      const { seen, url } = yield* healthy
      const layer = LiveLayer.make({
        baseUrl: url,
        password: Redacted.make("mine"),
        workspace: "wrk_1",
        database: "memory",
        requestTimeout: "5 seconds"
      }).pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({
        OPENCODE_BASE_URL: "http://127.0.0.1:1",
        OPENCODE_SERVER_PASSWORD: "theirs"
      }))))
      yield* Effect.flatMap(Client, (client) => client.questions).pipe(Effect.provide(layer))
      assert.include(seen[1], `/question?workspace=wrk_1 Basic ${Buffer.from("opencode:mine").toString("base64")}`)
    }))

  it.effect("keeps conversations in a file, and creates its folder for the user alone", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const settings = { XDG_DATA_HOME: folder }
      assert.isTrue(yield* Effect.provide(remember, configured(settings)))
      assert.deepStrictEqual(yield* Effect.provide(recall, configured(settings)), Option.some(session))
      const { mode } = yield* fs.stat(`${folder}/opencode-turn`)
      assert.strictEqual(mode & 0o777, 0o700)
      assert.isTrue(yield* fs.exists(`${folder}/opencode-turn/turns.db`))
    }))

  it.effect("gives two layers in memory a store each", () =>
    Effect.gen(function*() {
      const first = LiveLayer.make({ database: "memory" })
      const second = LiveLayer.make({ database: "memory" })
      const both = Layer.merge(
        Layer.effectDiscard(remember).pipe(Layer.provide(first)),
        Layer.effectDiscard(Effect.andThen(remember, (isOurs) => Effect.sync(() => assert.isTrue(isOurs)))).pipe(
          Layer.provide(second)
        )
      )
      yield* Effect.scoped(Layer.build(both))
    }))

  it.effect("uses the given tracer", () =>
    Effect.gen(function*() {
      yield* Effect.flatMap(Tracer, (tracer) => tracer.emit("session.created", { session_id: "s", subject_id: "c" }))
        .pipe(
          Effect.provide(LiveLayer.make({ database: "memory", tracer: Tracers.layerNoop }))
        )
      const log = Tracers.layerCollect()
      const events = yield* Effect.gen(function*() {
        yield* Effect.flatMap(Tracer, (tracer) => tracer.emit("session.created", { session_id: "s", subject_id: "c" }))
        return yield* Effect.flatMap(TraceLog, ({ events }) => events)
      }).pipe(Effect.provide(Layer.provideMerge(LiveLayer.make({ database: "memory", tracer: log }), log)))
      assert.deepStrictEqual(events.map(({ name }) => name), ["opencode.session.created"])
    }))

  const invalid = [
    ["OPENCODE_TIMEOUT", "soon"],
    ["OPENCODE_TIMEOUT", "0"],
    ["OPENCODE_TIMEOUT", "-5 seconds"],
    ["OPENCODE_BASE_URL", "localhost:4096"],
    ["OPENCODE_BASE_URL", "ftp://user:canary@host"],
    ["OPENCODE_BASE_URL", "http://u:canary%zz@h"],
    ["OPENCODE_BASE_URL", "http://canary%@h"],
    ["OPENCODE_BASE_URL", "http://h/?token=canary"],
    ["OPENCODE_BASE_URL", "http://h/#canary"],
    ["OPENCODE_TURN_DATABASE", " "],
    ["OPENCODE_TURN_DATABASE", " postgres://u:canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "host=h password=canary"],
    ["OPENCODE_TURN_DATABASE", "HOST = h PASSWORD = canary"],
    ["OPENCODE_TURN_DATABASE", "Server=h;Pwd=canary"],
    ["OPENCODE_TURN_DATABASE", "turns.db?password=canary"],
    ["OPENCODE_TURN_DATABASE", "u:canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "u:p/canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "host  =  h password  =  canary"],
    ["OPENCODE_TURN_DATABASE", "\"postgres://u:p/canary@h/d\""],
    ["OPENCODE_TURN_DATABASE", "DATABASE_URL=postgres://u:p/canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "psql \"postgresql://u:p/canary@h/d\""],
    ["OPENCODE_TURN_DATABASE", "h:5432:db:u:canary"],
    ["OPENCODE_TURN_DATABASE", "PGPASSWORD=canary"],
    ["OPENCODE_TURN_DATABASE", "sslpassword=canary"],
    ["OPENCODE_TURN_DATABASE", "authtoken=canary"],
    ["OPENCODE_TURN_DATABASE", "u_1:canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "//u:canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "file:canary.db?mode=memory"],
    ["OPENCODE_TURN_DATABASE", "FILE:///canary.db"],
    ["OPENCODE_TURN_DATABASE", ":memory:?cache=shared"],
    ["OPENCODE_TURN_DATABASE", "sqlite:canary.db"],
    ["OPENCODE_TURN_DATABASE", "jdbc:postgresql://h/d?password=canary"],
    ["OPENCODE_TURN_DATABASE", "mysql://u:canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "postgres:canary"],
    ["OPENCODE_TURN_DATABASE", "postgresql://u:canary%zz@h/d"],
    ["OPENCODE_TURN_DATABASE", "postgres://u:1/canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "postgres://u:1#canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "postgres://u:1?canary@h/d"],
    ["OPENCODE_TURN_DATABASE", "postgres://u:can/ary@h/d"]
  ] as const
  for (const [name, value] of invalid) {
    it.effect(`says in one line that ${name}=${value} cannot be used`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          Effect.provide(Effect.void, configured({ OPENCODE_TURN_DATABASE: "memory", [name]: value }))
        )
        assert.strictEqual(error._tag, "InvalidConfig")
        assert.match(error.message, new RegExp(`^${name} (?:is|holds|looks|begins|cannot) [^\n]*$`))
        assert.notInclude(error.message, "canary")
      }))
  }

  it.effect("says in one line that a folder without a name cannot be used", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.provide(Effect.void, LiveLayer.make({ database: "memory", directory: "" }))
      )
      assert.strictEqual(error._tag, "InvalidConfig")
      assert.strictEqual(error.message, "directory is empty: leave it out, or name a folder")
    }))

  for (
    const value of ["turns.db", "./a:b@c.db", "a folder/my turns.db", "C:\\turns.db", "/srv/u:b@h/turns.db", ":memory:"]
  ) {
    it.effect(`takes OPENCODE_TURN_DATABASE=${value} for a database`, () =>
      Effect.map(checkDatabase("database", value), (checked) => assert.strictEqual(checked, value)))
  }

  for (const value of ["30 seconds", "90s", "1m", "1500", "500ms"]) {
    it.effect(`takes OPENCODE_TIMEOUT=${value}`, () =>
      Effect.provide(Effect.void, configured({ OPENCODE_TURN_DATABASE: "memory", OPENCODE_TIMEOUT: value })))
  }

  it.effect("says which folder cannot be created", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const file = yield* fs.makeTempFileScoped()
      const error = yield* Effect.flip(
        Effect.provide(recall, configured({ OPENCODE_TURN_DATABASE: `${file}/folder/turns.db` }))
      )
      assert.strictEqual(error._tag, "StoreError")
      assert.include(error.message, "cannot create the folder")
    }))
})
