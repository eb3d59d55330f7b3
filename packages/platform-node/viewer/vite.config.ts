import { defineConfig } from "vite"

export default defineConfig({
  root: import.meta.dirname,
  // The page may be mounted under any path.
  base: "./",
  publicDir: false,
  logLevel: "warn",
  build: {
    outDir: "../dist/viewer",
    emptyOutDir: true,
    target: "baseline-widely-available",
    // The content security policy allows no data in the place of a file, and a polyfill is an inline script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.md" }
  }
})
