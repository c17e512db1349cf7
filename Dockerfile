# syntax=docker/dockerfile:1
FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY tools/node/package.json tools/node/
RUN npm ci --omit=dev && npm cache clean --force

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
    MAPLEDGER_DATA=/data
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json ./
COPY migrations migrations
COPY openapi/openapi.json openapi/
COPY src src
# Whatever the umask of the checkout, node can read it.
RUN chmod -R a+rX package.json migrations openapi src && install -d -m 0700 -o node -g node /data
VOLUME /data
USER node
EXPOSE 8620
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["node", "src/cli/health.ts"]
CMD ["node", "src/main.js"]
