import { execFile, execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdtemp, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))

/** Builds another state of this repository in a folder of its own, with the dependencies that are installed here. */
export async function buildBase (ref) {
  const git = (...args) => run('git', ['-C', root, ...args])
  const { stdout } = await git('rev-parse', '--verify', '--end-of-options', `${ref}^{commit}`)
  const commit = stdout.trim()
  const folder = await mkdtemp(join(tmpdir(), 'bench-base-'))
  // Synchronous, as it is also what is left to do when this process is told to end.
  const remove = () => {
    process.off('exit', remove)
    rmSync(folder, { recursive: true, force: true })
    execFileSync('git', ['-C', root, 'worktree', 'prune'])
  }
  process.once('exit', remove)
  try {
    const base = join(folder, 'base')
    await git('worktree', 'add', '--detach', base, commit)
    await symlink(join(root, 'node_modules'), join(base, 'node_modules'))
    await run('npm', ['run', 'build'], { cwd: base })
    return { commit, plugin: join(base, 'dist/index.js'), remove }
  } catch (error) {
    remove()
    throw error
  }
}
