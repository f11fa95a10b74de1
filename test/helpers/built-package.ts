import { execFile } from 'node:child_process'
import { copyFile, mkdir, readFile, symlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const root = resolve(import.meta.dirname, '../..')

/**
 * Builds this package as `npm run build:js` does. It goes into a folder of the test's own,
 * because dist may be old or be replaced meanwhile.
 */
export async function buildPackage (folder: string): Promise<void> {
  const { scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const [bundler, ...options] = scripts['build:js'].split(' ')
  const args = options.map((option: string) => option.replace('--outdir=dist', `--outdir=${join(folder, 'dist')}`))
  await mkdir(folder, { recursive: true })
  await Promise.all([
    copyFile(join(root, 'package.json'), join(folder, 'package.json')),
    symlink(join(root, 'node_modules'), join(folder, 'node_modules')),
    promisify(execFile)(join(root, 'node_modules/.bin', bundler), args, { cwd: root })
  ])
}
