import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import type { Test } from 'tap'
import { readPage, root } from './markdown.ts'

/**
 * Environment of programs that load the sources by tsx alone: tap collects no coverage there. What transforms the
 * sources for the tests may be another one, and coverage of both together loses what the tests have covered.
 */
export const withoutCoverage = { _TAPJS_PROCESSINFO_COVERAGE_: '0' }

/** What the package exports, and the source of each: `fastify-cloud-run-websocket` is `index.ts`. */
export const sources: ReadonlyMap<string, string> = new Map(exported())

function * exported (): Iterable<[string, string]> {
  const { name, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    name: string, exports: Record<string, string | { default?: string }>
  }
  for (const [path, target] of Object.entries(exports)) {
    const built = typeof target === 'string' ? target : target.default
    if (built?.endsWith('.js')) yield [name + path.slice(1), built.replace('./dist/', '').replace(/\.js$/, '.ts')]
  }
}

/** The code of the block of a page whose info string says `run=name`, after what it is given. */
export function block (page: string, name: string): string {
  const found = readPage(page).blocks.find(candidate => candidate.name === name)
  if (!found) throw new Error(`${page} has no block with run=${name}`)
  return found.given === '' ? found.code : `${found.given}\n${found.code}`
}

/**
 * Runs the block of a page whose info string says `run=name` in this process, with the package's name resolved to the
 * sources and without its log, and returns these of its variables. The test closes what the block has opened.
 */
export async function importBlock<Names extends string> (
  t: Test, page: string, name: string, ...variables: Names[]
): Promise<Record<Names, any>> {
  const exports = variables.length > 0 ? `\nexport { ${variables.join(', ')} }\n` : '\n'
  const quiet = block(page, name).replace('logger: true', 'logger: false')
  const folder = t.testdir({ [`${name}.ts`]: withSources(quiet) + exports })
  return await import(pathToFileURL(join(folder, `${name}.ts`)).href) as Record<Names, any>
}

/**
 * Runs the block of a page whose info string says `run=name` as a program of its own, in a folder with these files, and
 * returns the port on which its app listens, as its log says. The block takes the port from the variable PORT.
 */
export async function startBlock (t: Test, page: string, name: string, files: Record<string, string> = {}): Promise<number> {
  const folder = t.testdir({ ...files, [`${name}.ts`]: withSources(block(page, name)) })
  const { NODE_OPTIONS: _ofThisProcess, ...env } = process.env
  const child = spawn(process.execPath, [`--import=${import.meta.resolve('tsx')}`, `${name}.ts`], {
    cwd: folder, env: { ...env, ...withoutCoverage, PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit']
  })
  const exited = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const [, port] = /Server listening at http:\/\/[^"]*:(\d+)"/.exec(line) ?? []
    if (port !== undefined) {
      child.stdout.resume()
      return Number(port)
    }
  }
  throw new Error(`${page}, run=${name}: the program ended`)
}

export function withSources (code: string): string {
  return code.replace(/(\bfrom |\bimport |\bimport\(|\brequire\()'([^']+)'/g, (whole, before: string, specifier: string) => {
    const source = sources.get(specifier)
    return source === undefined ? whole : `${before}'${pathToFileURL(join(root, source)).href}'`
  })
}

/** The blocks that a test runs, as `page name`. */
export function blocksOf (test: string): string[] {
  const calls = test.matchAll(/\b(?:block|importBlock|startBlock)\((?:t, )?'([^']+)', '([^']+)'/g)
  return Array.from(calls, ([, page, name]) => `${page} ${name}`)
}
