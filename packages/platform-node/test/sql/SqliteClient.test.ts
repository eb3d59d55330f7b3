import { NodeFileSystem } from "@effect/platform-node"
import { assert, it, vi } from "@effect/vitest"
import * as SqliteClient from "@opencode-turn/platform-node/SqliteClient"
import {
  Config,
  ConfigProvider,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  FileSystem,
  Layer,
  Scope,
  Stream
} from "effect"
import { SqlClient, SqlError } from "effect/sql"

const temporaryFile = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  return `${yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-sqlite-" })}/turn.db`
})

const open = (options: SqliteClient.Options) =>
  Effect.map(Layer.build(SqliteClient.layer(options)), (context) => Context.get(context, SqlClient.SqlClient))

const openNotes = Effect.gen(function*() {
  const sql = yield* open({ filename: yield* temporaryFile })
  yield* sql`CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, body TEXT)`
  return sql
})

const journal = (options: Omit<SqliteClient.Options, "filename">) =>
  Effect.gen(function*() {
    const sql = yield* open({ filename: yield* temporaryFile, ...options })
    return [yield* sql`PRAGMA journal_mode`.values, yield* sql`PRAGMA synchronous`.values].flat(2)
  })

const plain = (rows: ReadonlyArray<object>) => rows.map((row) => ({ ...row }))

it.layer(NodeFileSystem.layer)("SqliteClient", (it) => {
  it.effect("returns the rows that were written, with bound parameters of every type that SQLite stores", () =>
    Effect.gen(function*() {
      const sql = yield* open({ filename: ":memory:" })
      yield* sql`CREATE TABLE samples (a INTEGER, b REAL, c TEXT, d BLOB, e TEXT)`
      const hostile = "'); DROP TABLE samples; --"
      yield* sql`INSERT INTO samples ${sql.insert({ a: 1, b: 1.5, c: hostile, d: new Uint8Array([1, 2]), e: null })}`
      assert.deepStrictEqual(plain(yield* sql`SELECT * FROM samples WHERE c = ${hostile}`), [
        { a: 1, b: 1.5, c: hostile, d: new Uint8Array([1, 2]), e: null }
      ])
    }))

  it.effect("returns the same rows as values, as a stream and unprepared", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      yield* sql`INSERT INTO notes ${sql.insert([{ title: "a" }, { title: "b" }])}`
      const all = sql<{ title: string }>`SELECT title FROM notes ORDER BY id`
      assert.deepStrictEqual(yield* all.values, [["a"], ["b"]])
      assert.deepStrictEqual(plain(yield* all), [{ title: "a" }, { title: "b" }])
      assert.deepStrictEqual(plain(yield* all.unprepared), [{ title: "a" }, { title: "b" }])
      assert.deepStrictEqual(plain(yield* Stream.runCollect(all.stream)), [{ title: "a" }, { title: "b" }])
      const result = yield* sql`UPDATE notes SET body = 'x'`.raw
      assert.deepStrictEqual({ ...Object(result) }, { changes: 2, lastInsertRowid: 2 })
    }))

  it.effect("returns the rows of a single insert with RETURNING", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      assert.deepStrictEqual(plain(yield* sql`INSERT INTO notes (title) VALUES ('a') RETURNING id, title`), [
        { id: 1, title: "a" }
      ])
    }))

  it.effect("keeps nothing of a transaction that fails, and all of one that succeeds", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      const exit = yield* sql`INSERT INTO notes (title) VALUES ('lost')`.pipe(
        Effect.andThen(Effect.fail("no")),
        sql.withTransaction,
        Effect.exit
      )
      assert.deepStrictEqual(exit, Exit.fail("no"))
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`INSERT INTO notes (title) VALUES ('kept')`
        yield* Effect.exit(sql.withTransaction(Effect.andThen(
          sql`INSERT INTO notes (title) VALUES ('nested')`,
          Effect.fail("no")
        )))
      }))
      assert.deepStrictEqual(yield* sql`SELECT title FROM notes`.values, [["kept"]])
    }))

  it.effect("rolls an interrupted transaction back and lets the next one begin", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      const written = yield* Deferred.make<void>()
      const fiber = yield* sql`INSERT INTO notes (title) VALUES ('lost')`.pipe(
        Effect.andThen(Deferred.succeed(written, undefined)),
        Effect.andThen(Effect.never),
        sql.withTransaction,
        Effect.forkChild
      )
      yield* Deferred.await(written)
      yield* Fiber.interrupt(fiber)
      yield* sql.withTransaction(sql`INSERT INTO notes (title) VALUES ('kept')`)
      assert.deepStrictEqual(yield* sql`SELECT title FROM notes`.values, [["kept"]])
    }))

  it.effect("keeps the statements of concurrent fibers out of an open transaction", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      const increment = (n: number) =>
        sql.withTransaction(Effect.gen(function*() {
          const rows = yield* sql<{ total: number }>`SELECT count(*) AS total FROM notes`
          yield* Effect.yieldNow
          yield* sql`INSERT INTO notes ${sql.insert({ title: `${rows[0]?.total}`, body: `${n}` })}`
        }))
      yield* Effect.forEach(Array.from({ length: 50 }, (_, n) => n), increment, { concurrency: "unbounded" })
      assert.deepStrictEqual(
        (yield* sql`SELECT title FROM notes ORDER BY id`.values).map(([title]) => title),
        Array.from({ length: 50 }, (_, n) => `${n}`)
      )
    }))

  it.effect("classifies a unique violation and names its column", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      const insert = sql`INSERT INTO notes (title) VALUES ('a')`
      yield* insert
      const error = yield* Effect.flip(insert)
      assert.strictEqual(error.reason._tag, "UniqueViolation")
      assert.deepInclude(error.reason, { constraint: "notes.title" })
    }))

  it.effect("enforces foreign keys", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      yield* sql`CREATE TABLE tags (note INTEGER NOT NULL REFERENCES notes (id))`
      const error = yield* Effect.flip(sql`INSERT INTO tags (note) VALUES (7)`)
      assert.strictEqual(error.reason._tag, "ConstraintError")
    }))

  it.effect("can use the connection again after a commit that a deferred constraint refused", () =>
    Effect.gen(function*() {
      const sql = yield* openNotes
      yield* sql`CREATE TABLE tags (note INTEGER REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED)`
      const error = yield* Effect.flip(sql.withTransaction(sql`INSERT INTO tags (note) VALUES (7)`))
      assert.strictEqual(error.reason._tag, "ConstraintError")
      yield* sql.withTransaction(sql`INSERT INTO notes (title) VALUES ('next')`)
      assert.deepStrictEqual(yield* sql`SELECT count(*) FROM tags`.values, [[0]])
    }))

  it.effect("prepares a statement again that failed before its table existed", () =>
    Effect.gen(function*() {
      const sql = yield* open({ filename: ":memory:" })
      const count = sql`SELECT count(*) FROM late`.values
      assert.match((yield* Effect.flip(count)).message, /no such table: late/)
      yield* sql`CREATE TABLE late (id INTEGER)`
      assert.deepStrictEqual(yield* count, [[0]])
    }))

  it.effect("fails with a typed error for a parameter that SQLite cannot store, without its value", () =>
    Effect.gen(function*() {
      const sql = yield* open({ filename: ":memory:" })
      const error = yield* Effect.flip(sql`SELECT ${1}, ${{ secret: "canary" }}`)
      assert.strictEqual(error.message, "parameter 2 has a type that SQLite cannot store: object")
      assert.notInclude(JSON.stringify(error), "canary")
    }))

  it.effect("fails with a typed error that names the file when the file is not a database", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const filename = yield* temporaryFile
      yield* fs.writeFileString(filename, "certainly not a database\n".repeat(100))
      for (const options of [{ filename }, { filename, disableWAL: true }, { filename, readonly: true }]) {
        const error = yield* Effect.flip(open(options))
        assert.instanceOf(error, SqlError.SqlError)
        assert.strictEqual(error.message, `cannot open the SQLite database "${filename}": file is not a database`)
        assert.isFalse(error.isRetryable)
      }
    }))

  it.effect("fails with a connection error that names the file when it is a directory or has no folder", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped()
      for (const filename of [directory, `${directory}/missing/turn.db`]) {
        const error = yield* Effect.flip(open({ filename }))
        assert.strictEqual(error.reason._tag, "ConnectionError")
        assert.include(error.message, filename)
      }
    }))

  it.effect("logs writes ahead unless told otherwise", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* journal({}), ["wal", 1])
      assert.deepStrictEqual(yield* journal({ disableWAL: true }), ["delete", 2])
    }))

  it.effect("shows one client's writes to another client of the same file", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const left = yield* open({ filename })
      const right = yield* open({ filename })
      const reader = yield* open({ filename, readonly: true })
      yield* left`CREATE TABLE notes (title TEXT)`
      yield* right`INSERT INTO notes VALUES ('from the right')`
      assert.deepStrictEqual(yield* left`SELECT title FROM notes`.values, [["from the right"]])
      assert.deepStrictEqual(
        yield* reader.withTransaction(reader`SELECT title FROM notes`.values),
        [["from the right"]]
      )
    }))

  it.effect("reports a lock that another client holds as a retryable lock timeout", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const holder = yield* open({ filename })
      const waiter = yield* open({ filename, busyTimeout: 0 })
      const error = yield* holder.withTransaction(Effect.flip(waiter.withTransaction(waiter`SELECT 1`)))
      assert.strictEqual(error.reason._tag, "LockTimeoutError")
      assert.isTrue(error.isRetryable)
    }))

  it.effect("releases the file with its scope, and fails typed when it is used afterwards", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const filename = yield* temporaryFile
      const scope = yield* Scope.make()
      const sql = yield* open({ filename }).pipe(Scope.provide(scope))
      yield* sql`CREATE TABLE notes (title TEXT)`
      assert.isTrue(yield* fs.exists(`${filename}-wal`))
      yield* Scope.close(scope, Exit.void)
      // SQLite folds the log into the file and removes it when the last connection closes.
      assert.isFalse(yield* fs.exists(`${filename}-wal`))
      const error = yield* Effect.flip(sql`SELECT 1`)
      assert.strictEqual(error._tag, "SqlError")
    }))

  for (const mask of [0o022, 0o000]) {
    it.effect(`creates a database and its journals for their owner alone under umask ${mask.toString(8)}`, () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        yield* Effect.acquireRelease(
          Effect.sync(() => process.umask(mask)),
          (before) => Effect.sync(() => process.umask(before))
        )
        const modes = Effect.fnUntraced(function*(filename: string) {
          const folder = filename.slice(0, filename.lastIndexOf("/"))
          const names = (yield* fs.readDirectory(folder)).filter((name) => name !== "link.db").sort()
          const infos = yield* Effect.forEach(names, (name) => fs.stat(`${folder}/${name}`))
          return names.map((name, index) => `${name} ${((infos[index]?.mode ?? 0) & 0o777).toString(8)}`)
        })
        const write = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
          yield* sql`CREATE TABLE notes (title TEXT)`
        })

        const logged = yield* temporaryFile
        yield* Effect.flatMap(open({ filename: logged }), write)
        assert.deepStrictEqual(yield* modes(logged), ["turn.db 600", "turn.db-shm 600", "turn.db-wal 600"])

        const rolledBack = yield* temporaryFile
        const sql = yield* open({ filename: rolledBack, disableWAL: true })
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* write(sql)
          assert.deepStrictEqual(yield* modes(rolledBack), ["turn.db 600", "turn.db-journal 600"])
        }))

        const target = yield* temporaryFile
        const link = target.replace("turn.db", "link.db")
        yield* fs.symlink(target, link)
        yield* Effect.flatMap(open({ filename: link }), write)
        assert.deepStrictEqual((yield* modes(target))[0], "turn.db 600")
      }))
  }

  it.effect("leaves a database that exists the mode that somebody gave it", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const filename = yield* temporaryFile
      yield* Effect.scoped(open({ filename }))
      yield* fs.chmod(filename, 0o660)
      yield* Effect.scoped(open({ filename }))
      assert.strictEqual((yield* fs.stat(filename)).mode & 0o777, 0o660)
    }))

  it.effect("says which Node it needs, to one that has no SQLite", () =>
    Effect.gen(function*() {
      const getBuiltinModule = vi.spyOn(process, "getBuiltinModule").mockReturnValue(undefined)
      const { message } = yield* Effect.flip(open({ filename: ":memory:" })).pipe(
        Effect.ensuring(Effect.sync(() => getBuiltinModule.mockRestore()))
      )
      assert.include(message, "it needs Node 22.19 or newer, and this is")
    }))

  it.effect("takes no file: URI, which could name a database that keeps nothing", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(open({ filename: "file:turn.db?mode=memory" }))
      assert.include(error.message, "write only the path of the file")
    }))

  it.effect("reads its options from the configuration", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const context = yield* Layer.build(SqliteClient.layerConfig({ filename: Config.String("DATABASE") })).pipe(
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ DATABASE: filename })))
      )
      const sql = Context.get(context, SqlClient.SqlClient)
      assert.deepStrictEqual(yield* sql`SELECT file FROM pragma_database_list`.values, [[filename]])
    }))
})
