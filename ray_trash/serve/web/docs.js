// Swagger UI over our interface; it asks nobody but this server.
SwaggerUIBundle({ url: "openapi.json", domNode: document.getElementById("docs"), deepLinking: true, validatorUrl: null });
