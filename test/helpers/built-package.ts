import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import ts from 'typescript'

const root = resolve(import.meta.dirname, '../..')

/** This package as `npm run build` makes it, but without checks, which take much longer; in a folder of the test's own, because what is in dist may be old. */
export async function buildPackage (folder: string): Promise<void> {
  const config = ts.readConfigFile(join(root, 'tsconfig.build.json'), ts.sys.readFile).config
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  await mkdir(folder, { recursive: true })
  await Promise.all([
    copyFile(join(root, 'package.json'), join(folder, 'package.json')),
    symlink(join(root, 'node_modules'), join(folder, 'node_modules')),
    ...fileNames.map(async (file) => {
      const target = join(folder, 'dist', relative(root, file).replace(/\.ts$/, '.js'))
      await mkdir(dirname(target), { recursive: true })
      await writeFile(target, ts.transpileModule(await readFile(file, 'utf8'), { compilerOptions: { ...options, module: ts.ModuleKind.ES2022 } }).outputText)
    })
  ])
}
