// A newcomer's first hour, from the packed tarball in empty folders: `npm run first-hour`, or with a tarball that is
// there already: `node scripts/first-hour.mjs TARBALL`. Installs from the registry.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Centrifuge } from 'centrifuge'
import { WebSocket } from 'ws'

/** Versions of TypeScript that are promised in docs/typescript.md, by the name under which they are installed. */
const TYPESCRIPT = { oldest: '5.4', middle: '5.9', newest: 'latest' }

/** Milliseconds for whatever an example is waited for. */
const TIMEOUT = 60_000

const root = fileURLToPath(new URL('..', import.meta.url))
const apps = join(root, 'test/first-hour')
const folder = await mkdtemp(join(tmpdir(), 'first-hour-'))
const execute = promisify(execFile)
const { exports: exported } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
const tarball = process.argv[2] === undefined ? await pack() : resolve(process.argv[2])

async function run (where, program, ...args) {
  try {
    return (await execute(program, args, { cwd: join(folder, where), timeout: 120_000 })).stdout
  } catch (error) {
    throw new Error(`${where}: ${program} ${args.join(' ')}\n${error.stdout}${error.stderr}`)
  }
}

async function step (name, action) {
  const startedAt = Date.now()
  let outcome = 'passed'
  try {
    await action()
  } catch (error) {
    outcome = 'failed'
    process.exitCode = 1
    console.error(error)
  }
  console.log(`${name}: ${outcome} after ${((Date.now() - startedAt) / 1_000).toFixed(1)} s`)
}

/** An empty folder with what npm installs there, and then the app. */
async function newcomer (name, ...packages) {
  await mkdir(join(folder, name))
  await run(name, 'npm', 'init', '-y')
  await run(name, 'npm', 'install', '--no-audit', '--no-fund', '--loglevel=error', ...packages)
}

async function pack () {
  await run('.', 'npm', 'pack', '--ignore-scripts', '--pack-destination', folder, root)
  return join(folder, (await readdir(folder)).find(file => file.endsWith('.tgz')))
}

/** The two examples of the README: the page with its SDK client, and a plain client. */
async function javascript () {
  await newcomer('javascript', tarball, 'fastify')
  const [[, page]] = (await readFile(join(root, 'README.md'), 'utf8')).matchAll(/^```html\n(.*?)^```/gms)
  await writeFile(join(folder, 'javascript/index.html'), page)
  await example('server', async (url) => {
    assert.match(await (await fetch(url)).text(), /newSubscription/)
    const centrifuge = new Centrifuge(`${url.replace('http', 'ws')}/connection/websocket`, { websocket: WebSocket })
    const chat = centrifuge.newSubscription('chat:lobby')
    const received = new Promise(resolve => chat.once('publication', ({ data }) => resolve(data)))
    chat.subscribe()
    centrifuge.connect()
    await chat.ready(TIMEOUT)
    await chat.publish({ text: 'hello' })
    assert.deepEqual(await received, { text: 'hello' })
    return () => centrifuge.disconnect()
  })
  await example('plain', async (url) => {
    const client = new WebSocket(`${url.replace('http', 'ws')}/ws`)
    await once(client, 'open', soon())
    client.send('hello')
    const [data] = await once(client, 'message', soon())
    assert.deepEqual(JSON.parse(data), { text: 'hello' })
    const closed = once(client, 'close', soon())
    return async () => assert.equal((await closed)[0], 1001)
  })
}

/** Runs the README's block of this name, and ends it by SIGTERM. `use` returns what is to be done after the signal. */
async function example (name, use) {
  const [, code] = new RegExp(`^\`\`\`js run=${name}\\n(.*?)^\`\`\``, 'ms').exec(await readFile(join(root, 'README.md'), 'utf8'))
  await writeFile(join(folder, `javascript/${name}.mjs`), code)
  const server = spawn(process.execPath, [`${name}.mjs`], { cwd: join(folder, 'javascript'), env: { ...process.env, PORT: '0' } })
  const ended = once(server, 'exit', soon())
  try {
    const afterwards = await use(await listening(server))
    server.kill('SIGTERM')
    await afterwards()
    assert.deepEqual(await ended, [0, null])
  } finally {
    server.kill('SIGKILL')
  }
}

function soon () {
  return { signal: AbortSignal.timeout(TIMEOUT) }
}

async function listening (server) {
  for await (const line of createInterface({ input: server.stdout })) {
    const [, port] = /Server listening at http:\/\/[^"]*:(\d+)/.exec(line) ?? []
    if (port === undefined) continue
    server.stdout.resume()
    return `http://127.0.0.1:${port}`
  }
  throw new Error('the README\'s example ended')
}

/** Strict TypeScript that reads the declarations of all packages, which is the default. */
async function typescript () {
  const compilers = Object.entries(TYPESCRIPT).map(([name, version]) => `${name}@npm:typescript@${version}`)
  await newcomer('typescript', tarball, 'fastify', '@opentelemetry/api', '@types/node@20', ...compilers)
  for (const name of ['typescript', 'commonjs']) await cp(join(apps, name), join(folder, 'typescript'), { recursive: true })
  const strict = { strict: true, noEmit: true, target: 'es2022', types: ['node'], skipLibCheck: false }
  const nodenext = { ...strict, module: 'nodenext', exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true }
  const bundler = { ...strict, module: 'esnext', moduleResolution: 'bundler' }
  const esm = ['app.mts', 'schemas.mts']
  // What the oldest and the newest say of the resolution of bundlers, the middle one says too.
  await Promise.all([
    compile('oldest', 'node16', { ...nodenext, module: 'node16' }, [...esm, 'node16.cts']),
    compile('oldest', 'bundler', bundler, esm),
    compile('middle', 'nodenext', nodenext, [...esm, 'app.cts', 'node16.cts']),
    compile('newest', 'nodenext', nodenext, [...esm, 'app.cts', 'node16.cts']),
    compile('newest', 'bundler', bundler, esm)
  ])
}

async function compile (compiler, name, compilerOptions, files) {
  const config = `tsconfig.${compiler}.${name}.json`
  await writeFile(join(folder, 'typescript', config), JSON.stringify({ compilerOptions, files }))
  await run('typescript', process.execPath, `node_modules/${compiler}/bin/tsc`, '-p', config)
}

async function commonjs () {
  await newcomer('commonjs', tarball, 'fastify')
  await cp(join(apps, 'commonjs'), join(folder, 'commonjs'), { recursive: true })
  assert.equal(await run('commonjs', process.execPath, 'app.cjs'), '200 no such room\n')
}

async function vitest () {
  await newcomer('vitest', tarball, 'fastify', 'vitest')
  await cp(join(apps, 'vitest'), join(folder, 'vitest'), { recursive: true })
  await run('vitest', process.execPath, 'node_modules/vitest/vitest.mjs', 'run', ...exported['./testing'] ? [] : ['plain.test.js'])
}

// All of them come to their end before the folder is removed.
await Promise.all([step('JavaScript', javascript), step('TypeScript', typescript), step('CommonJS', commonjs), step('vitest', vitest)])
await rm(folder, { recursive: true, force: true })
