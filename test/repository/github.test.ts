import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'

interface Step { uses?: string, run?: string, with?: Record<string, unknown> }
interface Job { permissions?: Record<string, string>, steps: Step[], environment?: string, strategy?: { matrix: Matrix } }
interface Matrix { node: string[], server: string[], version: string[], include: Array<Record<string, unknown>> }
interface Workflow { permissions: object, jobs: Record<string, Job> }
interface Form { name: string, description: string, body: Array<{ type: string, id?: string, attributes: { label?: string } }> }

const root = resolve(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const readYaml = (path: string) => parse(read(path), { strict: true, uniqueKeys: true })
const { scripts } = JSON.parse(read('package.json'))

const workflows = new Map(readdirSync(join(root, '.github/workflows')).map(file => [file, readYaml(`.github/workflows/${file}`) as Workflow]))
const jobs = Array.from(workflows).flatMap(([file, { jobs }]) => Object.entries(jobs).map(([name, job]) => ({ name: `${file}: ${name}`, job })))
const steps = jobs.flatMap(({ job }) => job.steps)

t.test('workflows may do no more than they need', async (t) => {
  for (const [file, { permissions }] of workflows) t.strictSame(permissions, {}, file)
  t.strictSame(jobs.map(({ name, job }) => [name, job.permissions]), [
    ['ci.yml: test', { contents: 'read' }],
    ['release.yml: publish', { contents: 'read', 'id-token': 'write' }]
  ])
  for (const { uses, with: inputs } of steps) if (uses?.startsWith('actions/checkout@')) t.equal(inputs?.['persist-credentials'], false)
})

t.test('actions are pinned by commit', async (t) => {
  const actions = steps.flatMap(({ uses }) => uses ?? [])
  t.ok(actions.length > 0)
  t.strictSame(actions.filter(action => !/@[0-9a-f]{40}$/.test(action)), [])
})

t.test('what workflows run is there', async (t) => {
  const commands = steps.flatMap(({ run }) => run?.split('\n') ?? [])
  const ours = commands.filter(command => command.startsWith('.'))
  t.strictSame(ours, ['.ci/run'])
  for (const path of ours) accessSync(join(root, path), constants.X_OK)
  const npm = commands.flatMap(command => /\bnpm (?:run ([\w:-]+)|(test|start)\b)/.exec(command)?.slice(1).find(Boolean) ?? [])
  t.strictSame(npm.filter(name => scripts[name] === undefined), [])
})

t.test('CI runs on every Node.js that the README names, on Redis 7 and 8, on Valkey 8, and with the newest Fastify', async (t) => {
  const { node, server, version, include } = workflows.get('ci.yml')!.jobs.test!.strategy!.matrix
  const [, named = ''] = /^\| Node \| (.*) \|$/m.exec(read('README.md')) ?? []
  t.strictSame(node, named.split(', ').map(version => version.split('.')[0]))
  const servers = [...server.flatMap(name => version.map(number => `${name} ${number}`)), ...include.map(({ server, version }) => `${server} ${version}`)]
  for (const wanted of [/^redis 7/, /^redis 8/, /^valkey 8/]) t.ok(servers.some(one => wanted.test(one)), String(wanted))
  t.ok(include.some(({ fastify }) => fastify === true))
})

t.test('releases are published by npm with provenance and without a token', async (t) => {
  const text = read('.github/workflows/release.yml')
  t.match(text, 'npm publish --access public --provenance')
  t.notMatch(text, /secrets\.|NODE_AUTH_TOKEN/)
  t.equal(workflows.get('release.yml')!.jobs.publish!.environment, 'npm')
})

t.test('Dependabot looks at folders that have something to renew', async (t) => {
  interface Update { 'package-ecosystem': string, directory?: string, directories?: string[], ignore?: Array<{ 'dependency-name': string }> }
  const { updates } = readYaml('.github/dependabot.yml') as { updates: Update[] }
  const files: Record<string, string> = { npm: 'package.json', docker: 'Dockerfile', 'github-actions': '.github/workflows' }
  const { devDependencies } = JSON.parse(read('package.json'))
  for (const { 'package-ecosystem': ecosystem, directory, directories = [directory!], ignore = [] } of updates) {
    for (const folder of directories) t.ok(existsSync(join(root, folder, files[ecosystem]!)), `${ecosystem} in ${folder}`)
    for (const { 'dependency-name': name } of ignore) t.ok(devDependencies[name], name)
  }
})

t.test('issue forms have what GitHub wants: a name, a description, and fields with a label and an id of their own', async (t) => {
  for (const file of readdirSync(join(root, '.github/ISSUE_TEMPLATE'))) {
    if (file === 'config.yml') continue
    const { name, description, body } = readYaml(`.github/ISSUE_TEMPLATE/${file}`) as Form
    t.ok(name && description, file)
    const fields = body.filter(({ type }) => type !== 'markdown')
    t.ok(fields.length > 0 && fields.every(({ id, attributes: { label } }) => id && label), file)
    t.equal(new Set(fields.map(({ id }) => id)).size, fields.length, file)
  }
})
