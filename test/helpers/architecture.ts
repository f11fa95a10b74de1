import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import ts from 'typescript'

/** Floors of `lib/`, from the top. A room imports from lower floors only, never from a neighbour on its own. */
export const FLOORS: readonly (readonly string[])[] = [
  ['http', 'testing', 'cli'],
  ['protocols', 'lifecycle'],
  ['core'],
  ['backends', 'observability'],
  ['hub', 'options', 'google'],
  ['model', 'util']
]

/** What users import or run. They build parts from any room, and nobody imports them. */
export const ENTRIES: readonly string[] = ['index.ts', 'publisher.ts', 'testing.ts', 'types.ts', 'cli.ts']

/** Source text by path, such as `lib/hub/hub.ts`. */
export type Sources = ReadonlyMap<string, string>

/** The files that each file imports, types included. */
export type Graph = ReadonlyMap<string, readonly string[]>

const root = join(import.meta.dirname, '../..')

export function readSources (): Sources {
  const files = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'))
  const paths = [...ENTRIES, ...files.map(file => posix.join('lib', file.replaceAll('\\', '/')))].toSorted()
  return new Map(paths.map(path => [path, readFileSync(join(root, path), 'utf8')]))
}

export function importGraph (sources: Sources): Graph {
  return new Map(Array.from(sources, ([file, text]) => [file, importsOf(file, text)]))
}

/** Every relative import: static, of types, dynamic, in a type, and of `export … from`. */
function importsOf (file: string, text: string): string[] {
  const imports = new Set<string>()
  const add = (node: ts.Node | undefined) => {
    if (node !== undefined && ts.isStringLiteral(node) && node.text.startsWith('.')) imports.add(posix.join(posix.dirname(file), node.text))
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) add(node.moduleSpecifier)
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0])
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal)
    ts.forEachChild(node, visit)
  }
  visit(parse(file, text))
  return Array.from(imports)
}

function parse (file: string, text: string): ts.SourceFile {
  return ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
}

export function roomOf (file: string): string | undefined {
  return /^lib\/([^/]+)\//.exec(file)?.[1]
}

function floorOf (room: string | undefined): number {
  return FLOORS.findIndex(rooms => rooms.includes(room ?? ''))
}

/** Imports that lead up or sideways, and files that are in no room. */
export function wrongWays (graph: Graph): string[] {
  const wrong: string[] = []
  for (const [file, imports] of graph) {
    if (ENTRIES.includes(file)) continue
    const room = roomOf(file)
    if (floorOf(room) === -1) wrong.push(`${file} is in no room`)
    for (const imported of imports) {
      const other = roomOf(imported)
      if (other !== room && floorOf(other) <= floorOf(room)) wrong.push(`${file} imports ${imported}`)
    }
  }
  return wrong
}

/** Circles of imports, each as the path that closes it. */
export function circles (graph: Graph): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (file: string, path: string[]): void => {
    const start = path.indexOf(file)
    if (start !== -1) found.push([...path.slice(start), file].join(' > '))
    if (start !== -1 || done.has(file)) return
    for (const imported of graph.get(file) ?? []) visit(imported, [...path, file])
    done.add(file)
  }
  for (const file of graph.keys()) visit(file, [])
  return found
}

/** Files of each room that other rooms import, the entries left out. */
export function doors (graph: Graph): Record<string, string[]> {
  const used = new Map<string, Set<string>>()
  for (const [file, imports] of graph) {
    for (const imported of imports) {
      const room = roomOf(imported)
      if (ENTRIES.includes(file) || room === undefined || room === roomOf(file)) continue
      const files = used.get(room) ?? new Set()
      used.set(room, files.add(imported.slice(`lib/${room}/`.length)))
    }
  }
  return Object.fromEntries(Array.from(used, ([room, files]) => [room, Array.from(files).toSorted()]))
}

/** Files that do nothing but hand on what others export. */
export function barrels (sources: Sources): string[] {
  return Array.from(sources.keys()).filter(file => {
    const { statements } = parse(file, sources.get(file)!)
    const handsOn = statements.every(statement => ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement))
    return handsOn && statements.length > 0 && !ENTRIES.includes(file)
  })
}

/** Lines of each function, by `file:name`. A class is no function. */
export function functionLengths (sources: Sources): Map<string, number> {
  const lengths = new Map<string, number>()
  for (const [file, text] of sources) {
    const source = parse(file, text)
    const lineOf = (position: number) => source.getLineAndCharacterOfPosition(position).line
    const visit = (node: ts.Node): void => {
      if (ts.isFunctionLike(node)) {
        const line = lineOf(node.getStart())
        const name = node.name?.getText() ?? `line ${line + 1}`
        lengths.set(`${file}:${name}`, lineOf(node.end) - line + 1)
      }
      ts.forEachChild(node, visit)
    }
    visit(source)
  }
  return lengths
}
