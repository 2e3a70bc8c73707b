enum SluiceGatewayPlaceholder {}
