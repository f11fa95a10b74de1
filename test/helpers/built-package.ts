import { execFile } from 'node:child_process'
import { copyFile, mkdir, symlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const root = resolve(import.meta.dirname, '../..')

/**
 * Builds this package as `npm run build:js` does. It goes into a folder of the test's own,
 * because dist may be old or be replaced meanwhile.
 */
export async function buildPackage (folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  await Promise.all([
    copyFile(join(root, 'package.json'), join(folder, 'package.json')),
    symlink(join(root, 'node_modules'), join(folder, 'node_modules')),
    promisify(execFile)(process.execPath, [join(root, 'scripts/build.mjs'), '--js', `--outdir=${join(folder, 'dist')}`])
  ])
}
