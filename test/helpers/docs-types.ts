import { dirname, join } from 'node:path'
import ts from 'typescript'
import { sources } from './docs.ts'
import { readPage, root } from './markdown.ts'
import type { Block } from './markdown.ts'

const options: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  lib: ['lib.es2023.d.ts', 'lib.es2024.string.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleDetection: ts.ModuleDetectionKind.Force,
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  allowImportingTsExtensions: true,
  types: ['node'],
  paths: Object.fromEntries(Array.from(sources, ([name, source]) => [name, [join(root, source)]]))
}

/**
 * What TypeScript (strict) says of the js and ts blocks of these pages, as `page:line: text`. Each block is a module.
 * JavaScript is checked as TypeScript that may leave types out.
 */
export function typeErrors (pages: readonly string[]): string[] {
  const [alone, together] = [pages.flatMap(blocks).filter(extendsModule), pages.flatMap(blocks).filter(block => !extendsModule(block))]
  return [together, ...alone.map(block => [block])].flatMap(errorsOfProgram)
}

/** Whether a block extends types of a module. It does so for its whole program. */
function extendsModule ({ code }: Block): boolean {
  return code.includes('declare module')
}

/** What all programs have in common is parsed once. */
const parsed = new Map<string, ts.SourceFile | undefined>()

function errorsOfProgram (all: readonly Block[]): string[] {
  const files = new Map(all.map(block => [fileOf(block), block]))
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = name => files.has(name) || fileExists(name)
  host.readFile = name => files.has(name) ? textOf(files.get(name)!) : readFile(name)
  host.getSourceFile = (name, languageVersion, ...rest) => {
    const block = files.get(name)
    if (block) return ts.createSourceFile(name, textOf(block), languageVersion)
    if (!parsed.has(name)) parsed.set(name, getSourceFile(name, languageVersion, ...rest))
    return parsed.get(name)
  }
  const program = ts.createProgram([...files.keys()], options, host)
  return Array.from(files, ([name, block]) => errorsOf(program, name, block)).flat()
}

function blocks (page: string): Block[] {
  return readPage(page).blocks.filter(({ language }) => language === 'js' || language === 'ts')
}

/** A block with `require` and no `import` is CommonJS. */
function fileOf ({ page, line, code }: Block): string {
  const isCommonJs = /\brequire\(/.test(code) && !/^import /m.test(code)
  return join(root, dirname(page), `${page.replaceAll('/', '-')}-${line}.${isCommonJs ? 'cts' : 'ts'}`)
}

function textOf ({ given, code }: Block): string {
  return `${given}\n${code}`
}

function errorsOf (program: ts.Program, name: string, block: Block): string[] {
  const file = program.getSourceFile(name)!
  const diagnostics = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]
  const found = diagnostics.filter(({ code }) => block.language === 'ts' || !isImplicitAny(code))
  const givenLines = block.given.split('\n').length
  return found.map(({ start = 0, messageText }) => {
    const { line } = file.getLineAndCharacterOfPosition(start)
    const place = line < givenLines ? `${block.page}:${block.line}, given` : `${block.page}:${block.line + line - givenLines}`
    return `${place}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
  })
}

function isImplicitAny (code: number): boolean {
  return code >= 7000 && code < 7100
}
