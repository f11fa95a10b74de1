import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { mkdtemp, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))

/**
 * Builds another state of this repository in a folder of its own. If it has the same dependencies, those that are
 * installed here serve; else its own are installed.
 */
export async function buildBase (ref) {
  const git = (...args) => run('git', ['-C', root, ...args])
  const { stdout } = await git('rev-parse', '--verify', '--end-of-options', `${ref}^{commit}`)
  const commit = stdout.trim()
  const folder = await mkdtemp(join(tmpdir(), 'bench-base-'))
  const base = join(folder, 'base')
  // Synchronous, as it is also what is left to do when this process is told to end.
  let build
  const remove = () => {
    process.off('exit', remove)
    if (build?.exitCode === null) process.kill(-build.pid, 'SIGKILL') // or it would go on writing
    spawnSync('git', ['-C', root, 'worktree', 'remove', '--force', base]) // which fails where it was never added
    rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', remove)
  try {
    await git('worktree', 'add', '--detach', base, commit)
    const npm = async (...args) => {
      build = spawn('npm', args, { cwd: base, detached: true, stdio: ['ignore', 'ignore', 'inherit'] }) // in a process group of its own
      const [code] = await once(build, 'exit')
      if (code !== 0) throw new Error(`${ref} can not be built`)
    }
    const sameDependencies = await git('diff', '--quiet', commit, '--', 'package-lock.json').then(() => true, () => false)
    if (sameDependencies) await symlink(join(root, 'node_modules'), join(base, 'node_modules'))
    else await npm('ci', '--ignore-scripts', '--no-audit', '--no-fund')
    await npm('run', 'build')
    return { commit, plugin: join(base, 'dist/index.js'), remove }
  } catch (error) {
    remove()
    throw error
  }
}
