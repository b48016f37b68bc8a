// A Vendure server as its documents have it, on SQLite, with files in the folder that is named. It ends with its input.
const { createHash } = require('crypto');
const path = require('path');
const { bootstrap, DefaultLogger, LogLevel, RandomBytesApiKeyStrategy } = require('@vendure/core');
const { AssetServerPlugin } = require('@vendure/asset-server-plugin');

const [folder, password, uploadMaxFileSize] = process.argv.slice(2);

// Vendure's own is bcrypt: a third of a second for each request, which is most of what the tests would wait for.
const sha256 = (text) => createHash('sha256').update(text).digest('hex');
const hashingStrategy = { hash: async (text) => sha256(text), check: async (text, hash) => sha256(text) === hash };

const config = {
  apiOptions: { hostname: '127.0.0.1', port: 0, adminApiPath: 'admin-api', shopApiPath: 'shop-api' },
  authOptions: {
    tokenMethod: ['bearer', 'api-key'],
    adminApiKeyStrategy: new RandomBytesApiKeyStrategy({ hashingStrategy }),
    superadminCredentials: { identifier: 'superadmin', password },
  },
  dbConnectionOptions: {
    type: 'better-sqlite3',
    database: path.join(folder, 'vendure.sqlite'),
    synchronize: true,
    logging: false,
  },
  paymentOptions: { paymentMethodHandlers: [] },
  assetOptions: { uploadMaxFileSize: Number(uploadMaxFileSize) },
  customFields: { Product: [{ name: 'wirephotoJob', type: 'string', nullable: true }] },
  logger: new DefaultLogger({ level: LogLevel.Error, timestamp: false }),
  plugins: [AssetServerPlugin.init({ route: 'assets', assetUploadDir: path.join(folder, 'assets') })],
};

bootstrap(config).then(
  (app) => console.log(JSON.stringify({ port: app.getHttpServer().address().port })),
  (fault) => {
    console.error(fault);
    process.exit(1);
  },
);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
