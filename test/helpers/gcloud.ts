import { execFile } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { findProgram } from './programs.js'

/**
 * Records each call and remembers what was created. Creating a thing twice is an error, as with the real gcloud. What
 * describe prints is what the real one (528) prints for the same format, tried with a server that has the API's fields.
 */
const SCRIPT = `set -eu
state=\${0%/*}/state
printf '%s\\x1f' "$@" >> "$state/calls"
printf '\\x1e' >> "$state/calls"

fail () { echo "ERROR: (gcloud) $1" >&2; exit 1; }
answer () { [ ! -e "$state/$1" ] || echo "$(<"$state/$1")"; }
# Whether a number that a test has set was above 0; it is one less then.
count_down () {
  local left
  [ -e "$state/$1" ] || return 1
  left=$(<"$state/$1")
  [ "$left" -gt 0 ] || return 1
  echo $((left - 1)) > "$state/$1"
}

if [ -e "$state/denied" ]; then
  case "$*" in "$(answer denied)"*) [ -e "$state/denials" ] && ! count_down denials || fail "$(answer denial)" ;; esac
fi

kind='' name='' verb='' role='' member='' secret='' network='' redis='' source='' tier=BASIC size='' tls=DISABLED before=''
mode='' shards='' replicas='' node='' access='' min='' max=''
for word in "$@"; do
  value=\${word#*=}
  case $word in
    --role=*) role=$value ;;
    --member=*) member=$value ;;
    --secret=*) secret=$value ;;
    --network=*) network=$value ;;
    --source=*) source=$value ;;
    --update-labels=redis=*) redis=\${value#*=} access=\${redis#*,access=} redis=\${redis%%,*} ;;
    --min=*) min=$value ;;
    --max-instances=*) max=$value ;;
    --tier=standard) tier=STANDARD_HA ;;
    --size=*) size=$value ;;
    --mode=*) mode=$(tr a-z- A-Z_ <<< "$value") ;;
    --shard-count=*) shards=$value ;;
    --replica-count=*) replicas=$value ;;
    --node-type=*) node=$(tr a-z- A-Z_ <<< "$value") ;;
    --transit-encryption-mode=*) tls=SERVER_AUTHENTICATION ;;
    create|describe|get-iam-policy|add-iam-policy-binding|add|access|get-auth-string|get-certificate-authority|deploy) [ "$verb" ] || verb=$word ;;
    --*) ;;
    *) if [ -z "$verb" ]; then kind="$kind$before$word"; before=' '; elif [ -z "$name" ]; then name=\${word%@*}; fi ;;
  esac
done

instance () {
  [ -e "$state/$kind $name" ] || fail "NOT_FOUND: $kind $name"
  if count_down creating; then echo "CREATING|$1"; else answer "$kind $name"; fi
}
add_version () {
  cat > "$state/secrets $1"
  echo v >> "$state/versions $1"
}

case "$*" in
  'config get-value project') answer project ;;
  'version '*) answer version ;;
  'services list '*) answer apis ;;
  'services enable '*) printf '%s\\n' "$@" | grep googleapis.com >> "$state/apis" ;;
  'billing projects describe '*) [ -e "$state/billing" ] || fail 'PERMISSION_DENIED: billing'; answer billing ;;
  'billing budgets list '*) answer budgets ;;
  'billing budgets create '*) echo "chat in demo|500|b-1" > "$state/budgets" ;;
  'network-connectivity service-connection-policies list '*) answer policies ;;
  'network-connectivity service-connection-policies create '*) echo "$network gcp-memorystore" >> "$state/policies" ;;
  'secrets versions access latest '*)
    [ -s "$state/secrets $secret" ] || fail "NOT_FOUND: Secret [$secret] has no versions"
    answer "secrets $secret" ;;
  'secrets versions describe latest '*)
    [ -e "$state/versions $secret" ] || fail "NOT_FOUND: Secret [$secret] has no versions"
    grep -c v "$state/versions $secret" ;;
  'secrets versions add '*) add_version "$name" ;;
  'secrets create '*)
    [ ! -e "$state/secrets $name" ] || fail "ALREADY_EXISTS: secret $name"
    : > "$state/secrets $name"
    # The secret and its version take two requests.
    [ "$(answer half)" != "$name" ] || { rm "$state/half"; fail 'the network is gone'; }
    add_version "$name" ;;
  'redis instances get-auth-string '*) answer auth ;;
  'redis instances create '*)
    [ ! -e "$state/$kind $name" ] || fail "ALREADY_EXISTS: $kind $name"
    echo "READY|10.0.0.3|6379|$tls|True|$tier|$size|$network" > "$state/$kind $name" ;;
  'redis instances describe '*serverCaCerts*) answer ca ;;
  'redis instances describe '*) instance '||||BASIC|1|' ;;
  'memorystore instances create '*)
    [ ! -e "$state/$kind $name" ] || fail "ALREADY_EXISTS: $kind $name"
    [ -s "$state/policies" ] || fail 'FAILED_PRECONDITION: no service connection policy'
    echo "ACTIVE|$mode|IAM_AUTH|SERVER_AUTHENTICATION|$shards|$replicas|$node|default" > "$state/$kind $name" ;;
  'memorystore instances get-certificate-authority '*) answer ca ;;
  'memorystore instances describe '*pscAutoConnection.ipAddress*) answer endpoints ;;
  'memorystore instances describe '*) instance 'CLUSTER_DISABLED||||||' ;;
  'run deploy --help '*) answer help ;;
  'run deploy '*)
    case "$*" in *' --no-traffic '*) latest= ;; *) latest=True ;; esac
    echo "$redis|$latest|chat-00001|$access|||||$min|$max|$max" > "$state/service $name"
    for file in "$source"/* "$source"/.[!.]*; do echo "\${file##*/}"; done > "$state/context"
    [ ! -e "$source/package.json" ] || cat "$source/package.json" > "$state/context package.json" ;;
  'run services describe '*)
    [ -e "$state/service $name" ] || fail "Cannot find service [$name]"
    case "$*" in
      *metadata.labels*) answer "service $name" ;;
      *status.traffic.tag=canary*) echo https://canary---chat.example ;;
      *status.traffic.revisionName*) answer traffic ;;
      *) echo https://chat.example ;;
    esac ;;
  'run services update-traffic '*) ;;
  *' get-iam-policy '*) answer "policy $kind $name" ;;
  *' add-iam-policy-binding '*) echo "$role $member" >> "$state/policy $kind $name"; echo 'the whole policy' ;;
  *' create '*)
    [ ! -e "$state/$kind $name" ] || fail "ALREADY_EXISTS: $kind $name"
    : > "$state/$kind $name" ;;
  *' describe '*)
    [ -e "$state/$kind $name" ] || fail "NOT_FOUND: $kind $name"
    answer "$kind $name" ;;
  *) fail "unknown: $*" ;;
esac
`

/** Programs that the scripts call besides gcloud: npm knows one version, and nobody sleeps. */
const NPM = `state=\${0%/*}/state
echo "$*" >> "$state/npm calls"
[ -e "$state/npm" ] || { echo "npm error 404" >&2; exit 1; }
echo "$(<"$state/npm")"
`
const SLEEP = `echo "$1" >> "\${0%/*}/state/slept"
`
/** What a run leaves that is no part of the project. */
const NOT_MADE = /^(calls|npm calls|slept|denied|denials|denial|half|creating|secrets .*-token-secret)$/
const PROGRAMS = ['bash', 'cat', 'cp', 'dirname', 'head', 'base64', 'grep', 'mkdir', 'mktemp', 'rm', 'tar', 'tee', 'tr', 'gzip']

export interface Gcloud {
  /** Every call so far, as its arguments. */
  calls (): string[][]
  /**
   * Reads an answer or a stored value: project, version, apis, billing, budgets, policies, auth, ca, endpoints, help,
   * traffic, npm, creating (so many times an instance is still being made), denied (calls that begin with it fail,
   * `denials` times if that is set, with the message `denial`), half (a secret that is left without a version, once),
   * slept, context (files that were built), 'secrets NAME', 'service NAME', 'policy KIND NAME'.
   */
  get (name: string): string
  set (name: string, value: string): void
  /** Forgets a value, as if it had never been there. */
  forget (name: string): void
  /** All that was made, without the log of calls, and without secrets that are random. */
  made (): Record<string, string>
  /** Runs a bash script that finds this gcloud, or none, and never the machine's own. */
  run (script: string, args: string[], settings?: RunSettings): Promise<RunResult>
}

interface RunSettings { installed?: boolean, env?: Record<string, string> }
interface RunResult { code: number, stdout: string, stderr: string }

/** A gcloud with the empty project `demo`. */
export async function fakeGcloud (t: Test): Promise<Gcloud> {
  const folder = await mkdtemp(join(tmpdir(), 'gcloud-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [bin, withGcloud, state] = ['bin', 'with-gcloud', 'with-gcloud/state'].map(name => join(folder, name)) as [string, string, string]
  await mkdir(bin)
  await mkdir(state, { recursive: true })
  await Promise.all(PROGRAMS.map(program => symlink(findProgram(program)!, join(bin, program))))
  for (const [name, code] of Object.entries({ gcloud: SCRIPT, npm: NPM, sleep: SLEEP })) {
    await writeFile(join(withGcloud, name), `#!${join(bin, 'bash')}\n${code}`, { mode: 0o755 })
  }
  const get = (name: string) => existsSync(join(state, name)) ? readFileSync(join(state, name), 'utf8') : ''
  const set = (name: string, value: string) => writeFileSync(join(state, name), value)
  const given = {
    'projects demo': '',
    'compute networks subnets default': 'default 10.128.0.0/20',
    version: '587.0.0',
    billing: 'True 01AB-02CD',
    npm: '0.1.0',
    auth: '9f2c1d6e-0a5b',
    ca: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----',
    endpoints: 'CONNECTION_TYPE_READER|10.0.0.5|6379\nCONNECTION_TYPE_PRIMARY|10.0.0.3|6379\nCONNECTION_TYPE_DISCOVERY|10.0.0.9|6380',
    denial: 'PERMISSION_DENIED: not for you',
    help: '--readiness-probe=[KEY] --scaling-concurrency-target=N --max=MAX --max-instances=N --[no-]invoker-iam-check '
  }
  for (const [name, value] of Object.entries(given)) set(name, value)
  return {
    get,
    set,
    forget: name => rmSync(join(state, name), { force: true }),
    made: () => Object.fromEntries(readdirSync(state).filter(name => !NOT_MADE.test(name)).toSorted().map(name => [name, get(name)])),
    calls: () => get('calls').split('\x1e').slice(0, -1).map(call => call.split('\x1f').slice(0, -1)),
    run: (script, args, { installed = true, env = {} } = {}) => new Promise((resolve) => {
      const PATH = installed ? `${withGcloud}:${bin}` : bin
      execFile(join(bin, 'bash'), ['--norc', script, ...args], { env: { ...env, PATH } }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
      })
    })
  }
}
