// Who may import whom. Arrows go down only; siblings are strangers (docs/decisions/0001-house.md).
const floors = ['contracts', 'kit', 'stats'];
const rooms = ['gate', 'run', 'store', 'data', 'train', 'agent', 'provenance', 'plugins'];
const families = ['engines', 'judges', 'trainers', 'reports', 'suites'];

const rule = (name, from, to, comment) => ({ name, severity: 'error', comment, from, to });

module.exports = {
  forbidden: [
    rule('no-circle', {}, { circular: true }, 'A circle means that two files are one, or that a third is missing.'),
    rule(
      'contracts-import-nothing',
      { path: '^src/contracts/' },
      { pathNot: '^src/contracts/' },
      'Contracts are types and stand alone.',
    ),
    rule(
      'kit-imports-contracts',
      { path: '^src/kit/' },
      { path: '^(src/(?!contracts/|kit/)|engines|judges|trainers|reports|suites)' },
      'kit knows contracts only.',
    ),
    rule(
      'stats-imports-kit',
      { path: '^src/stats/' },
      { path: '^(src/(?!contracts/|kit/|stats/)|engines|judges|trainers|reports|suites)' },
      'stats knows contracts and kit only.',
    ),
    ...rooms.map((room) =>
      rule(
        `${room}-is-a-room`,
        { path: `^src/${room}/` },
        { path: `^src/(?!(${floors.join('|')}|${room})/)` },
        'A room imports the floors below and itself; what it needs of a neighbour is a port.',
      ),
    ),
    rule('jobs-below-cli', { path: '^src/jobs/' }, { path: '^src/cli/' }, 'Jobs know nothing of the command line.'),
    rule(
      'core-names-no-plugin',
      { path: '^src/' },
      { path: `^(${families.join('|')})/` },
      'The core reaches plugins by id only.',
    ),
    ...families.map((family) =>
      rule(
        `${family}-know-contracts`,
        { path: `^${family}/` },
        { path: `^(src/(?!contracts/|kit/|stats/)|(?!${family}/)(${families.join('|')})/)` },
        'Plugins know contracts, kit and stats, never the rooms, never another family.',
      ),
    ),
    rule(
      'plugins-are-strangers',
      { path: '^(judges|trainers|suites/validators)/([^/]+)\\.ts$' },
      { path: '^$1/[^/]+\\.ts$', pathNot: '^$1/($2|errors)\\.ts$' },
      'What two plugins share lives in the lib folder of their family.',
    ),
    rule(
      'engines-are-strangers',
      { path: '^(engines|reports)/([^/]+)/' },
      { path: '^$1/[^/]+/', pathNot: '^$1/($2|lib)/' },
      'What two plugins share lives in the lib folder of their family.',
    ),
    rule(
      'no-test-in-product',
      { path: '^(src|engines|judges|trainers|reports|suites)/' },
      { path: '^test/' },
      'Product code never imports a test.',
    ),
    rule(
      'no-fixture-code-in-product',
      { path: '^(src|engines|judges|trainers|reports)/' },
      { path: '^fixtures/' },
      'Fixtures are inputs, not code to build on.',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|node_modules|coverage|engines/native/target)/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.mjs', '.json'],
      conditionNames: ['import', 'require', 'node', 'default'],
    },
  },
};
