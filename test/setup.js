// The tests run against a real Redis and a real browser. Installs what is missing where that needs nobody's leave,
// as in a container, and elsewhere says what to type.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { findProgram } from './helpers/programs.js'

const missing = ['redis-server', 'chromium', 'openssl'].filter((name) => !findProgram(name))

if (missing.length > 0) {
  if (findProgram('apt-get')) {
    const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...missing.map(debianPackage)]
    if (process.getuid() === 0) {
      run('apt-get', 'update')
      run(...install)
      const absent = missing.filter((name) => !findProgram(name))
      if (absent.length > 0) stop(`Still not on the PATH: ${absent.join(', ')}.`)
    } else {
      stop(`The tests need ${missing.join(' and ')}. Please run:\n\n  sudo apt-get update && sudo ${install.join(' ')}\n`)
    }
  } else {
    const brew = missing.map((name) => name === 'chromium' ? 'brew install --cask google-chrome' : `brew install ${name.replace('-server', '')}`)
    stop(`The tests need ${missing.join(' and ')}. Please install them, on macOS with:\n\n  ${brew.join(' && ')}\n`)
  }
}

function debianPackage (name) {
  const isUbuntu = /^ID=ubuntu$/m.test(readFileSync('/etc/os-release', 'utf8'))
  return name === 'chromium' && isUbuntu ? 'chromium-browser' : name
}

function run (program, ...args) {
  // The package would start Redis as a service; in runlevel 1 it does not. Where it starts all the same it does no
  // harm: every test starts a server of its own on a free port.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  const { status } = spawnSync(program, args, { stdio: 'inherit', env })
  if (status !== 0) stop(`This failed: ${program} ${args.join(' ')}`)
}

function stop (message) {
  console.error(message)
  process.exit(1)
}
