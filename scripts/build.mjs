// Builds dist: `node scripts/build.mjs [--js] [--outdir=FOLDER]`. With --js the declarations are left out, which take
// most of the time and which no program needs to run. What package.json exports as ./dist/NAME.js is made of NAME.ts.
import { build } from 'esbuild'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { js: { type: 'boolean' }, outdir: { type: 'string' } } })
const root = fileURLToPath(new URL('..', import.meta.url))
const outdir = resolve(values.outdir ?? resolve(root, 'dist'))
process.chdir(root)

const { exports } = JSON.parse(await readFile('package.json', 'utf8'))
const entries = Object.values(exports)
  .flatMap(target => /^\.\/dist\/(.+)\.js$/.exec(target.default)?.[1] ?? [])
  .map(name => ({ in: `${name}.ts`, out: name }))

await mkdir(outdir, { recursive: true })
const [js, types] = await Promise.all([buildJs(), values.js ? [] : buildTypes()])
// Last, and only what this build did not write: a server that runs from dist may still import its chunks.
const written = new Set([...js, ...types])
const old = (await readdir(outdir, { recursive: true, withFileTypes: true })).filter(entry => entry.isFile())
  .map(({ parentPath, name }) => resolve(parentPath, name))
await Promise.all(old.filter(file => !written.has(file)).map(file => rm(file)))

async function buildJs () {
  const { metafile } = await build({
    entryPoints: entries,
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    metafile: true,
    logLevel: 'warning'
  })
  return Object.keys(metafile.outputs).map(file => resolve(file))
}

/** One file of what an entry exports, and of nothing else: the other types need packages that users lack. */
async function buildTypes () {
  const [{ rollup }, { dts }] = await Promise.all([import('rollup'), import('rollup-plugin-dts')])
  const bundle = await rollup({
    input: Object.fromEntries(entries.map(entry => [entry.out, entry.in])),
    external: id => !id.startsWith('.') && !id.startsWith(root),
    plugins: [dts({ tsconfig: 'tsconfig.json' })],
    onwarn: ({ message }) => { throw new Error(message) }
  })
  const { output } = await bundle.write({ dir: outdir, entryFileNames: '[name].d.ts', chunkFileNames: '[name]-[hash].d.ts' })
  await bundle.close()
  return output.map(({ fileName }) => resolve(outdir, fileName))
}
