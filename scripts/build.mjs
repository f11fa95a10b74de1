// Builds dist: `node scripts/build.mjs [--js] [--outdir=FOLDER]`. With --js the declarations are left out, which take
// most of the time and which no program needs to run. What `exports` or `bin` of package.json has as ./dist/NAME.js is
// made of NAME.ts. A program of `bin` exports nothing, so it has no declarations.
import { build } from 'esbuild'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { js: { type: 'boolean' }, outdir: { type: 'string' } } })
const root = fileURLToPath(new URL('..', import.meta.url))
const outdir = resolve(values.outdir ?? resolve(root, 'dist'))
process.chdir(root)

const { exports, bin } = JSON.parse(await readFile('package.json', 'utf8'))
const entries = Object.values(exports).flatMap(target => entryOf(target.default))
const programs = Object.values(bin).flatMap(entryOf)

const MAIN = entries.find(({ out }) => out === 'index')

await mkdir(outdir, { recursive: true })
const [js, types] = await Promise.all([buildJs(), values.js ? [] : buildTypes()])
// Last, and only what this build did not write: a server that runs from dist may still import its chunks.
const written = new Set([...js, ...types])
const old = (await readdir(outdir, { recursive: true, withFileTypes: true })).filter(entry => entry.isFile())
  .map(({ parentPath, name }) => resolve(parentPath, name))
await Promise.all(old.filter(file => !written.has(file)).map(file => rm(file)))

function entryOf (file) {
  const name = /^\.\/dist\/(.+)\.js$/.exec(file)?.[1]
  return name === undefined ? [] : [{ in: `${name}.ts`, out: name }]
}

/** The inspector's page goes into the code: a user may bundle this package again, and would leave files behind. */
function inspectorPage () {
  return {
    name: 'inspector-page',
    setup ({ onLoad }) {
      onLoad({ filter: /[/\\]inspector[/\\]assets\.ts$/ }, async ({ path }) => {
        const folder = resolve(dirname(path), 'page')
        const files = await Promise.all((await readdir(folder)).map(async name => [name, await readFile(resolve(folder, name), 'utf8')]))
        return { contents: `export const assets = ${JSON.stringify(Object.fromEntries(files))}`, loader: 'js' }
      })
    }
  }
}

async function buildJs () {
  const { metafile } = await build({
    entryPoints: [...entries, ...programs],
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    plugins: [inspectorPage()],
    metafile: true,
    logLevel: 'warning'
  })
  return Object.keys(metafile.outputs).map(file => resolve(file))
}

/**
 * One file of what an entry exports, and of nothing else: the other types need packages that users lack. What the
 * main entry has, the others import from it: an app extends its `RealtimeTypes` there.
 */
async function buildTypes () {
  const [{ rollup }, { dts }] = await Promise.all([import('rollup'), import('rollup-plugin-dts')])
  const main = await buildEntry(MAIN, id => isPackage(id))
  const ofMain = new Set(main.moduleIds)
  const others = await Promise.all(entries.filter(entry => entry !== MAIN).map(entry => buildEntry(entry, (id, importer) => {
    return isPackage(id) || (importer !== undefined && ofMain.has(resolve(dirname(importer), id)))
  })))
  return [main, ...others].map(({ fileName }) => resolve(outdir, fileName))

  async function buildEntry ({ in: input, out }, external) {
    const bundle = await rollup({
      input: { [out]: input }, external, plugins: [dts({ tsconfig: 'tsconfig.json' })], onwarn: ({ message }) => { throw new Error(message) }
    })
    const { output: [chunk] } = await bundle.write({
      dir: outdir, entryFileNames: '[name].d.ts', paths: id => isPackage(id) ? id : `./${MAIN.out}.js`
    })
    await bundle.close()
    return chunk
  }
}

function isPackage (id) {
  return !id.startsWith('.') && !id.startsWith(root)
}
