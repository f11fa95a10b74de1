// Plain JavaScript, because test/setup.js runs before anything that could read TypeScript.
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, resolve } from 'node:path'

const names = {
  'redis-server': ['redis-server'],
  chromium: [
    'chromium', 'chromium-browser', 'google-chrome',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'
  ]
}

/** Set by REDIS_SERVER: another Redis, or a Valkey. Its command line client is beside it. */
function chosen (name) {
  const server = process.env.REDIS_SERVER
  if (!server) return undefined
  return { 'redis-server': [server], 'redis-cli': [server.replace(/-server$/, '-cli')] }[name]
}

export function findProgram (name) {
  const folders = process.env.PATH.split(delimiter)
  return (chosen(name) ?? names[name] ?? [name])
    .flatMap((candidate) => folders.map((folder) => resolve(folder, candidate)))
    .find(isExecutable)
}

function isExecutable (path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile() // a folder can be executable, too
  } catch {
    return false
  }
}
