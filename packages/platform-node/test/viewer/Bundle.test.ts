import { assert, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { isFresh } from "../../viewer/build.ts"

const folder = fileURLToPath(new URL("../../dist/viewer", import.meta.url))
const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
  /\.(?:html|js|css|svg)$/.test(name)
)
const read = (name: string) => readFileSync(`${folder}/${name}`)

it("is built of the sources as they are", () => {
  assert.isTrue(isFresh())
})

it("needs less than 150 KB for its first load", () => {
  const bytes = files.reduce((sum, name) => sum + gzipSync(read(name)).length, 0)
  assert.isBelow(bytes, 150_000)
  assert.isAbove(bytes, 10_000)
})

it("has no script and no style in its HTML, and makes none of texts", () => {
  const html = read("index.html").toString()
  assert.notMatch(html, /<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=/i)
  for (const name of files.filter((name) => name.endsWith(".js"))) {
    const code = read(name).toString()
    // Preact itself knows `dangerouslySetInnerHTML`; the page's own sources must not.
    assert.notMatch(code, /\beval\(|new Function\(|insertAdjacentHTML|document\.write|outerHTML/)
  }
  const sources = fileURLToPath(new URL("../../viewer", import.meta.url))
  for (
    const name of readdirSync(sources, { recursive: true, encoding: "utf8" }).filter((name) => /\.tsx?$/.test(name))
  ) {
    assert.notMatch(readFileSync(`${sources}/${name}`, "utf8"), /innerHTML|outerHTML|srcdoc|insertAdjacent/i, name)
  }
})

it("names the licences of the libraries in it", () => {
  const licences = read("licenses.md").toString()
  for (const name of ["preact", "@preact/signals", "marked", "eventsource-parser"]) assert.include(licences, name)
})
