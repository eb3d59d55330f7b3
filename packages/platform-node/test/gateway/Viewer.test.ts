import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { Effect } from "effect"
import * as Gateways from "../support/Gateways.ts"

const page = { token: null }

it.layer(Gateways.layer)("the page of the gateway", (it) => {
  it.effect("is served without a token, with its files, and under the policy without inline script", () =>
    Effect.gen(function*() {
      const { call } = yield* Gateways.open({ viewer: true })
      const html = yield* call("/", page)
      assert.strictEqual(html.status, 200)
      assert.strictEqual(html.headers.get("content-type"), "text/html; charset=utf-8")
      assert.strictEqual(html.headers.get("cache-control"), "no-cache")
      assert.strictEqual(html.headers.get("content-security-policy"), Gateway.contentSecurityPolicy)
      const files = Array.from(html.text.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g), ([, file = ""]) => file)
      assert.lengthOf(files, 3)
      for (const file of files) {
        const answer = yield* call(`/${file}`, page)
        assert.strictEqual(answer.status, 200, file)
        assert.match(answer.headers.get("cache-control") ?? "", /immutable/)
        assert.strictEqual(answer.headers.get("x-content-type-options"), "nosniff")
      }
    }).pipe(Effect.scoped))

  it.effect("is compressed for those who take that", () =>
    Effect.gen(function*() {
      const { call } = yield* Gateways.open({ viewer: true })
      const encoding = (header: string) =>
        Effect.map(
          call("/", { ...page, headers: { "accept-encoding": header } }),
          ({ headers }) => headers.get("content-encoding")
        )
      assert.strictEqual(yield* encoding("br, gzip"), "gzip")
      assert.strictEqual(yield* encoding("gzip;q=0.5"), "gzip")
      assert.isNull(yield* encoding("gzip;q=0, br"))
      assert.isNull(yield* encoding("gzip;q=0.000"))
      assert.isNull(yield* encoding("identity"))
    }).pipe(Effect.scoped))

  it.effect("gives no other files, and nothing where it is switched off or mounted elsewhere", () =>
    Effect.gen(function*() {
      const { call } = yield* Gateways.open({ viewer: true })
      for (
        const path of [
          "/assets/..%2findex.html",
          "/assets/%2e%2e/sources.sha256",
          "/assets/../sources.sha256",
          "/assets/",
          "/index.html",
          "/assets/none.js",
          "/assets/%00",
          "/assets/..%5c..%5cpackage.json"
        ]
      ) assert.strictEqual((yield* call(path, page)).status, 404, path)
      const off = yield* Gateways.open()
      assert.strictEqual((yield* off.call("/", page)).status, 404)
      const mounted = yield* Gateways.open({ viewer: true, prefix: "/agent" })
      assert.strictEqual((yield* mounted.call("/", page)).status, 404)
      assert.strictEqual((yield* mounted.call("/agent/", page)).status, 200)
      assert.strictEqual((yield* mounted.call("/agent/?x=1", page)).status, 200)
      const bare = yield* mounted.call("/agent", page)
      assert.deepStrictEqual([bare.status, bare.headers.get("location")], [302, "/agent/"])
    }).pipe(Effect.scoped))

  it.effect("is refused under another host name, as everything is", () =>
    Effect.gen(function*() {
      const { call } = yield* Gateways.open({ viewer: true }, "http://evil.example")
      assert.strictEqual((yield* call("/", page)).status, 403)
    }).pipe(Effect.scoped))
})
