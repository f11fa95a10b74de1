import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { findProgram } from './programs.js'

/** Records each call and remembers what was created. Creating a thing twice is an error, as with the real gcloud. */
const SCRIPT = `set -eu
state=\${0%/*}/state
printf '%s\\x1f' "$@" >> "$state/calls"
printf '\\x1e' >> "$state/calls"

fail () { echo "ERROR: (gcloud) $1" >&2; exit 1; }
answer () { [ ! -e "$state/$1" ] || echo "$(<"$state/$1")"; }

if [ -e "$state/denied" ]; then
  case "$*" in "$(answer denied)"*) fail 'PERMISSION_DENIED: not for you' ;; esac
fi

kind='' name='' verb='' role='' member='' secret='' before=''
for word in "$@"; do
  case $word in
    --role=*) role=\${word#*=} ;;
    --member=*) member=\${word#*=} ;;
    --secret=*) secret=\${word#*=} ;;
    create|describe|get-iam-policy|add-iam-policy-binding|add|access|get-auth-string) [ "$verb" ] || verb=$word ;;
    --*) ;;
    *) if [ -z "$verb" ]; then kind="$kind$before$word"; before=' '; elif [ -z "$name" ]; then name=\${word%@*}; fi ;;
  esac
done

case "$*" in
  'config get-value project') answer project ;;
  'services list '*) answer apis ;;
  'services enable '*) printf '%s\\n' "$@" | grep googleapis.com >> "$state/apis" ;;
  'secrets versions access latest '*) answer "secrets $secret" ;;
  'secrets versions add '*) cat > "$state/secrets $name" ;;
  'redis instances get-auth-string '*) answer auth ;;
  'run deploy --help '*) answer help ;;
  'run deploy '*) ;;
  'run services describe '*) echo https://chat.example ;;
  *' get-iam-policy '*) answer "policy $kind $name" ;;
  *' add-iam-policy-binding '*) echo "$role $member" >> "$state/policy $kind $name"; echo 'the whole policy' ;;
  *' create '*)
    [ ! -e "$state/$kind $name" ] || fail "ALREADY_EXISTS: $kind $name"
    case "$*" in *--data-file=-*) cat ;; esac > "$state/$kind $name" ;;
  *' describe '*)
    [ -e "$state/$kind $name" ] || fail "NOT_FOUND: $kind $name"
    case "$*" in *'(host,port)'*) answer address ;; esac ;;
  *) fail "unknown: $*" ;;
esac
`

export interface Gcloud {
  /** Every call so far, as its arguments. */
  calls (): string[][]
  /**
   * Reads an answer or a stored value: project, apis, auth, address, help, denied (calls that begin with it fail),
   * 'secrets NAME', 'policy KIND NAME'.
   */
  get (name: string): string
  set (name: string, value: string): void
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
  await Promise.all(['bash', 'cat', 'dirname', 'head', 'base64', 'grep'].map(program => symlink(findProgram(program)!, join(bin, program))))
  await writeFile(join(withGcloud, 'gcloud'), `#!${join(bin, 'bash')}\n${SCRIPT}`, { mode: 0o755 })
  const get = (name: string) => existsSync(join(state, name)) ? readFileSync(join(state, name), 'utf8') : ''
  const set = (name: string, value: string) => writeFileSync(join(state, name), value)
  const given = {
    'projects demo': '',
    'compute networks subnets default': '',
    auth: '9f2c1d6e-0a5b',
    address: '10.0.0.3:6379',
    help: '--liveness-probe --readiness-probe'
  }
  for (const [name, value] of Object.entries(given)) set(name, value)
  return {
    get,
    set,
    calls: () => get('calls').split('\x1e').slice(0, -1).map(call => call.split('\x1f').slice(0, -1)),
    run: (script, args, { installed = true, env = {} } = {}) => new Promise((resolve) => {
      const PATH = installed ? `${withGcloud}:${bin}` : bin
      execFile(join(bin, 'bash'), ['--norc', script, ...args], { env: { ...env, PATH } }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
      })
    })
  }
}
