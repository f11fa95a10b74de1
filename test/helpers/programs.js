// Plain JavaScript, because test/setup.js runs before anything that could read TypeScript.
import { accessSync, constants } from 'node:fs'
import { delimiter, resolve } from 'node:path'

const names = {
  'redis-server': ['redis-server'],
  chromium: [
    'chromium', 'chromium-browser', 'google-chrome',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'
  ]
}

export function findProgram (name) {
  const folders = process.env.PATH.split(delimiter)
  return (names[name] ?? [name])
    .flatMap((candidate) => folders.map((folder) => resolve(folder, candidate)))
    .find(isExecutable)
}

function isExecutable (path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
