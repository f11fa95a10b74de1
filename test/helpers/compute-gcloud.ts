import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { findProgram } from './programs.js'

/** What exists. `run/REGION` holds what `run services describe` prints. */
export type State = Record<string, Record<string, string>>

export interface ComputeGcloud {
  state (): State
  change (change: (state: State) => void): void
  /** Every call so far, as its words without the project. */
  calls (): string[]
  /** Runs a bash script that finds this gcloud, or none, and never the machine's own. */
  run (args: string[], settings?: { installed?: boolean }): Promise<{ code: number, stdout: string, stderr: string }>
}

/**
 * A gcloud that knows what a load balancer is made of. Like the real one it refuses what is there already, and what
 * refers to something that is not.
 */
const SCRIPT = `
const { appendFileSync, readFileSync, writeFileSync } = require('node:fs')
const words = process.argv.slice(2).filter(word => !word.startsWith('--project='))
appendFileSync(__dirname + '/calls', words.join(' ') + '\\n')
const state = JSON.parse(readFileSync(__dirname + '/state.json', 'utf8'))
const flags = Object.fromEntries(words.filter(word => word.startsWith('--')).map(word => [word.slice(2).split('=')[0], word.slice(word.indexOf('=') + 1)]))
const plain = words.filter(word => !word.startsWith('--'))
const fail = text => { console.error('ERROR: (gcloud) ' + text); process.exit(1) }
const save = () => writeFileSync(__dirname + '/state.json', JSON.stringify(state))
const need = key => state[key] ?? fail("Could not fetch resource:\\n - The resource '" + key + "' was not found")
if (state.denied && words.join(' ').startsWith(state.denied.call)) fail('PERMISSION_DENIED: not for you')

const [group, collection, verb, name] = plain
const keyOf = (collection, name) => collection + '/' + (flags.region ? flags.region + '/' : '') + name
const refersTo = { 'url-map': 'url-maps', 'default-service': 'backend-services', 'ssl-certificates': 'ssl-certificates', address: 'addresses',
  'target-https-proxy': 'target-https-proxies', 'target-http-proxy': 'target-http-proxies', 'security-policy': 'security-policies' }
const checkReferences = () => Object.keys(flags).filter(flag => flag in refersTo).forEach(flag => need(refersTo[flag] + '/' + flags[flag]))
const make = (key, value) => {
  if (state[key]) fail('The resource ' + key + ' already exists')
  checkReferences()
  state[key] = value
  save()
}
/** The fields that setup.sh asks for. */
const fields = {
  'value(address)': () => '203.0.113.7',
  'value(managed.domains)': thing => thing.domains,
  'value(managed.status)': () => state.certificate?.status ?? 'PROVISIONING',
  'value(securityPolicy)': thing => thing['security-policy'] ?? '',
  'value(backends.group)': thing => thing.groups ?? '',
  'value[separator=" "](rules.priority,rules.rateLimitOptions.rateLimitThreshold.count)': thing => thing.rule ? '2147483647 \\n1000 ' + thing.rule : '2147483647 '
}

if (group === 'config') console.log('')
else if (group === 'services') {
  if (collection === 'enable') { state.compute = {}; save() } else if (state.compute) console.log('compute.googleapis.com')
} else if (group === 'run' && verb === 'describe') console.log(need('run/' + flags.region).yaml)
else if (group === 'run' && verb === 'update') { Object.assign(need('run/' + flags.region), flags); save() }
else if (collection === 'security-policies' && verb === 'rules') {
  const policy = need('security-policies/' + flags['security-policy'])
  if ((name === 'create') === Boolean(policy.rule)) fail('Cannot have rules with the same priorities, or no such rule')
  policy.rule = flags['rate-limit-threshold-count']
  save()
} else if (verb === 'describe') {
  const thing = need(keyOf(collection, name))
  console.log(flags.format ? (fields[flags.format] ?? (() => fail('unknown format')))(thing) : JSON.stringify(thing))
} else if (verb === 'create') {
  if (collection === 'backend-services' && flags.timeout) fail('Timeout sec is not supported for a backend service with Serverless network endpoint groups.')
  make(keyOf(collection, name), flags)
} else if (verb === 'import') make(keyOf(collection, name), JSON.parse(readFileSync(0, 'utf8')))
else if (verb === 'update') { checkReferences(); Object.assign(need(keyOf(collection, name)), flags); save() }
else if (verb === 'add-backend') {
  const region = flags['network-endpoint-group-region']
  need('network-endpoint-groups/' + region + '/' + flags['network-endpoint-group'])
  const service = need(keyOf(collection, name))
  const group = 'https://www.googleapis.com/compute/v1/projects/demo/regions/' + region + '/networkEndpointGroups/' + flags['network-endpoint-group']
  if (service.groups?.includes(group)) fail('duplicate network endpoint groups in backend service')
  service.groups = [service.groups, group].filter(Boolean).join('\\n')
  save()
} else fail('unknown: ' + words.join(' '))
`

/** With the service in these regions, as `deploy.sh` makes it. */
export async function computeGcloud (t: Test, script: string, regions: string[]): Promise<ComputeGcloud> {
  const folder = await mkdtemp(join(tmpdir(), 'compute-gcloud-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [bin, withGcloud] = [join(folder, 'bin'), join(folder, 'with-gcloud')]
  await Promise.all([bin, withGcloud].map(path => mkdir(path)))
  await Promise.all(['bash', 'cat'].map(program => symlink(findProgram(program)!, join(bin, program))))
  await writeFile(join(withGcloud, 'package.json'), '{"type":"commonjs"}')
  await writeFile(join(withGcloud, 'gcloud'), `#!${process.execPath}\n${SCRIPT}`, { mode: 0o755 })
  const file = join(withGcloud, 'state.json')
  const state = (): State => JSON.parse(readFileSync(file, 'utf8'))
  const yaml = "run.googleapis.com/minScale: '1'\nreadinessProbe:\n  httpGet:\n    path: /ready"
  writeFileSync(file, JSON.stringify(Object.fromEntries(regions.map(region => [`run/${region}`, { yaml }]))))
  const calls = join(withGcloud, 'calls')
  return {
    state,
    change (change) {
      const changed = state()
      change(changed)
      writeFileSync(file, JSON.stringify(changed))
    },
    calls: () => existsSync(calls) ? readFileSync(calls, 'utf8').split('\n').slice(0, -1) : [],
    run: (args, { installed = true } = {}) => new Promise((resolve) => {
      const PATH = installed ? `${withGcloud}:${bin}` : bin
      execFile(join(bin, 'bash'), ['--norc', script, ...args], { env: { PATH } }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
      })
    })
  }
}
