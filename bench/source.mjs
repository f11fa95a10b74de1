// Sources of lib/ that a benchmark uses: plain Node.js cannot import TypeScript.
import { build } from 'esbuild'
import { fileURLToPath } from 'node:url'

/** What a file of lib/ that needs no package exports. */
export async function importSource (file) {
  const entry = fileURLToPath(new URL(`../${file}`, import.meta.url))
  const { outputFiles: [{ text }] } = await build({ entryPoints: [entry], bundle: true, write: false, format: 'esm', platform: 'node', target: 'node20' })
  return import(`data:text/javascript,${encodeURIComponent(text)}`)
}
