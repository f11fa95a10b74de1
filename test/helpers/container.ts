import { existsSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import type { Test } from 'tap'
import { buildPackage } from './built-package.ts'

const root = resolve(import.meta.dirname, '../..')

/** An instruction of a Dockerfile. */
export interface Instruction { name: string, value: string }

/** The last stage of an example's Dockerfile, which is what runs. */
export function lastStage (example: string): Instruction[] {
  const lines = readFileSync(join(example, 'Dockerfile'), 'utf8').replaceAll('\\\n', ' ').split('\n').filter(line => /^[A-Z]/.test(line))
  const instructions = lines.map(line => ({ name: line.slice(0, line.indexOf(' ')), value: line.slice(line.indexOf(' ') + 1).trim() }))
  return instructions.slice(instructions.findLastIndex(({ name }) => name === 'FROM'))
}

/** The folder that the last stage makes. node_modules holds only dependencies of the example's package.json. */
export async function unpackContainer (t: Test, example: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'container-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [app, built] = [join(folder, 'app'), join(folder, 'fastify-cloud-run-websocket')]
  const modules = join(app, 'node_modules')
  await mkdir(modules, { recursive: true })
  await buildPackage(built)
  for (const { name, value } of lastStage(example)) {
    if (name !== 'COPY' || value.startsWith('--from=dependencies /app/node_modules ')) continue
    const words = value.split(' ')
    const target = words.pop()!
    for (const source of words.filter(word => !word.endsWith('*'))) {
      await cp(join(example, source), join(app, target, target.endsWith('/') ? basename(source) : ''), { recursive: true })
    }
  }
  for (const name of Object.keys(JSON.parse(readFileSync(join(example, 'package.json'), 'utf8')).dependencies)) {
    const source = name === 'fastify-cloud-run-websocket' ? built : join(root, 'node_modules', name)
    await mkdir(dirname(join(modules, name)), { recursive: true })
    if (existsSync(source)) await symlink(source, join(modules, name))
  }
  return app
}
